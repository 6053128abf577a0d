"""Accuracy by the reassessed labels of ImageNet's validation images (ReaL, Beyer et al., arXiv 2006.07159)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trickzoo.classification.metrics import wilson_percent
from trickzoo.classification.predictions import Predictions
from trickzoo.data.classes import imagenet1k
from trickzoo.data.imagenet_variants import real_labels_of
from trickzoo.errors import BadData
from trickzoo.wording import count


@dataclass(frozen=True, kw_only=True)
class RealAccuracy:
    """Accuracy in percent by reassessed labels, with the 95 % interval of top-1 (Wilson's).

    Attributes:
        top1, top5: a prediction is right if it is among the labels of the image.
        n: number of images with a label.
        without_labels: number of images that have no label, and are left out.
    """

    top1: float
    top1_interval: tuple[float, float]
    top5: float
    n: int
    without_labels: int


def real_accuracy(predictions: Predictions, labels: Sequence[Sequence[int]]) -> RealAccuracy:
    """Return the accuracy by reassessed labels, which `read_real_labels` returns.

    Raises BadData if the model lacks a class of ImageNet's, if an image has no entry in the labels, or if no image has a label.
    """
    place = {name: index for index, name in enumerate(predictions.classes)}
    names = imagenet1k()
    if missing := [name for name in names if name not in place]:
        raise BadData(f"--labels is for models of ImageNet's 1000 classes; this one has no {missing[0]}")
    of_images = [{place[names[label]] for label in each} for each in real_labels_of(predictions.names, labels)]
    judged = [(right, top) for right, top in zip(of_images, predictions.top.tolist(), strict=True) if right]
    hits = np.array([[bool(right & set(top[:k])) for k in (1, 5)] for right, top in judged])
    n = len(hits)
    if not n:
        raise BadData(f"not one of {count(len(of_images), 'image')} has a reassessed label; leave --labels out")
    top1, top5 = (round(100 * float(value), 4) for value in hits.mean(0))
    interval = wilson_percent(int(hits[:, 0].sum()), n)
    return RealAccuracy(top1=top1, top1_interval=interval, top5=top5, n=n, without_labels=len(of_images) - n)
