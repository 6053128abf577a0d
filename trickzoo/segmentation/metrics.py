"""Intersection over union and pixel accuracy, computed from one confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor

from trickzoo.data.masks import IGNORE
from trickzoo.errors import NOT_FINITE, BadCheckpoint, NotFinite
from trickzoo.wording import count, verb

STRIP = 2**22
"""Pixels that are counted at a time, as counting takes about 30 bytes for each."""


class ImageCounts(NamedTuple):
    """What is counted in one image.

    Attributes:
        right: number of judged pixels whose class is predicted correctly.
        judged: number of judged pixels.
        intersection: (K,) number of pixels of each class that are annotated and predicted as that class.
        union: (K,) number of pixels of each class that are annotated or predicted as that class.
        margin: the mean margin of the most probable class over the second one, in 0…1, as `mean_margin` returns it; NaN if it is unknown.
    """

    right: int
    judged: int
    intersection: NDArray[np.int64]
    union: NDArray[np.int64]
    margin: float = np.nan

    @property
    def miou(self) -> float:
        """The mean IoU in 0…1 over the classes that are annotated or predicted in the image; NaN without a judged pixel."""
        there = self.union > 0
        return float((self.intersection[there] / self.union[there]).mean()) if there.any() else np.nan


class ConfusionMatrix:
    """The number of pixels by true class (row) and predicted class (column). Integers make the sum over processes exact."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.counts: NDArray[np.int64] = np.zeros((len(self.classes),) * 2, np.int64)
        """(K, K) the number of judged pixels by true class (row) and predicted class (column)."""
        self.images: dict[int, ImageCounts] = {}
        """The counts of each image, by its index, as far as they were counted one by one."""
        self.stray = 0
        """The number of judged pixels whose prediction is not a class."""
        self.not_finite = 0
        """The number of images for which the network gives logits that are not finite."""

    def add(self, predicted: Tensor, truth: Tensor, index: int | None = None, margin: float = np.nan) -> None:
        """Count the pixels of two integer tensors that have one shape and are on one device.

        If they are all the pixels of an image, `index` is its number, and `margin` its mean margin. Pixels whose truth is `IGNORE` are not
        judged.

        Raises ValueError if the shapes differ, or if a true class is not one of the classes.
        """
        if predicted.shape != truth.shape:
            raise ValueError(f"predictions of shape {tuple(predicted.shape)} for masks of {tuple(truth.shape)}")
        before = self.counts.copy()
        for parts in zip(predicted.flatten().split(STRIP), truth.flatten().split(STRIP), strict=True):
            self._add(*parts)
        if index is not None:
            added = self.counts - before
            right = added.diagonal()
            self.images[index] = ImageCounts(int(right.sum()), int(added.sum()), right, _union(added), margin)

    def _add(self, predicted: Tensor, truth: Tensor) -> None:
        n = len(self.classes)
        judged, known = truth != IGNORE, (predicted >= 0) & (predicted < n)
        if bool((judged & ((truth < 0) | (truth >= n))).any()):
            raise ValueError(f"masks have values up to {int(truth[judged].max())}; there are {n} classes, and {IGNORE} is not judged")
        self.stray += int((judged & ~known).sum())
        pairs = (n * truth.long() + predicted.long()).where(judged & known, n * n)
        self.counts += torch.bincount(pairs, minlength=n * n + 1)[:-1].view(n, n).cpu().numpy()

    def gather(self) -> None:
        """Sum the counts of all processes. It must be called once on all of them, after each image was added by exactly one.

        Raises NotFinite, on all processes, for logits that are not finite, and BadCheckpoint if a prediction is not a class.
        """
        parts = gather_object([(self.counts, self.stray, self.not_finite, self.images)])
        self.counts, self.stray, self.not_finite = (sum(part[place] for part in parts) for place in range(3))
        self.images = {index: pixels for *_, images in parts for index, pixels in images.items()}
        if self.not_finite:
            raise NotFinite(f"the network {NOT_FINITE}")
        if self.stray:
            raise BadCheckpoint(
                f"{count(self.stray, 'pixel')} {verb(self.stray, 'is')} predicted as none of the {len(self.classes)} classes; "
                "the network was trained for others"
            )

    def summary(self) -> dict[str, Any]:
        """Return mean IoU over the classes that occur, pixel accuracy and each class's IoU, in percent; None if there is no pixel."""
        pixels, each = int(self.counts.sum()), intersection_over_union(self.counts)
        return {
            "pixels": pixels,
            "miou": round(100 * float(np.nanmean(each)), 4) if pixels else None,
            "pixel_accuracy": round(100 * pixel_accuracy(self.counts), 4) if pixels else None,
            "per_class": {name: None if np.isnan(v) else round(100 * float(v), 4) for name, v in zip(self.classes, each, strict=True)},
        }


def mean_margin(logits: Tensor) -> float:
    """Return the mean over pixels of the margin of the most probable class over the second one, in 0…1, of (K, h, w) logits.

    Every fourth row and column counts, because neighbouring logits are interpolated from the same ones. With one class it is 1.
    """
    probability = logits[:, ::4, ::4].float().softmax(0)
    most = probability.topk(min(len(probability), 2), 0).values
    return float((most[0] - most[1:].sum(0)).mean())


def intersection_over_union(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the (K,) IoU in 0…1 of each class of a (K, K) confusion matrix.

    It is NaN for a class that is neither annotated nor predicted, and 0 for a class that is only predicted.
    """
    right, union = counts.diagonal(), _union(counts)
    return np.divide(right, union, out=np.full(len(counts), np.nan), where=union > 0)


def _union(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return counts.sum(0) + counts.sum(1) - counts.diagonal()


def pixel_accuracy(counts: NDArray[np.int64]) -> float:
    """Return the fraction, in 0…1, of the pixels in a (K, K) confusion matrix that are predicted correctly; NaN if it counts none."""
    pixels = counts.sum()
    return float(counts.trace() / pixels) if pixels else np.nan
