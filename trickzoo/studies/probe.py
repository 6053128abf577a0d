"""Probing several weights on one's own images: nearest neighbours and a linear probe on the features of each."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from trickzoo.backbone import Backbone
from trickzoo.classification.features import extract
from trickzoo.classification.metrics import wilson_percent
from trickzoo.classification.probes import choose_probe, nearest_neighbours
from trickzoo.data.division import divide
from trickzoo.data.imageset import ImageSet
from trickzoo.data.loaders import label_indices
from trickzoo.errors import BadData
from trickzoo.studies import words
from trickzoo.studies.comparison import mcnemar, paired_interval
from trickzoo.studies.statistics import holm
from trickzoo.weights.record import Preprocessing
from trickzoo.wording import all_of, count

HELD_OUT = 0.2
"""The fraction of the training images of each class on which the strength of the linear probe's penalty is chosen."""


@dataclass(frozen=True)
class Images:
    """Training and validation images whose labels are indices into the same classes.

    Attributes:
        train, val: the images.
        classes: the names of the classes.
        train_labels: (n,) the class of each training image.
        val_labels: (m,) the class of each validation image.
        held_out: (n,) whether each training image is held out while the strength of the penalty is chosen.
    """

    train: ImageSet
    val: ImageSet
    classes: tuple[str, ...]
    train_labels: NDArray[np.int64]
    val_labels: NDArray[np.int64]
    held_out: NDArray[np.bool_]

    @classmethod
    def of(cls, train: ImageSet, val: ImageSet) -> Images:
        """Return the images with the labels of their classes.

        Raises BadData if there is one class only, if a validation image has a class without a training image, or if every class has fewer
        than three training images.
        """
        classes = train.classes
        if len(classes) < 2:
            raise BadData(f"{train.root}: there is one class, {classes[0]}; at least two are needed")
        held_out = divide(train.names, train.strata, range(len(train.names)), HELD_OUT, 0)
        if not held_out.any():
            raise BadData(f"{train.root}: no class has three training images; a probe needs a third image of a class to choose its penalty")
        return cls(train, val, classes, label_indices(train, classes), label_indices(val, classes), held_out)

    @property
    def majority(self) -> float:
        """The share of the largest class among the validation images, in percent."""
        return 100 * float(np.bincount(self.val_labels).max()) / len(self.val_labels)


@dataclass(frozen=True)
class Accuracy:
    """Top-1 on the validation images in percent, with its 95 % Wilson interval."""

    top1: float
    interval: tuple[float, float]

    @classmethod
    def of(cls, right: NDArray[np.bool_]) -> Accuracy:
        """Return the accuracy of predictions, (m,) whether each is right."""
        return cls(round(100 * float(right.mean()), 4), wilson_percent(int(right.sum()), len(right)))


@dataclass(frozen=True)
class Probed:
    """The features of a weight, judged.

    Attributes:
        weights: the name of the weight.
        model: the zoo's name of the network.
        sha256: the SHA-256 of the file.
        preprocessing: how the images were prepared.
        features: the number of features.
        knn, linear: accuracy of the nearest neighbours and of the linear probe.
        l2: the strength of the penalty that was chosen for the linear probe.
        right: (m,) whether the linear probe is right for each validation image.
        seconds: wall time of the features and of both probes.
    """

    weights: str
    model: str
    sha256: str
    preprocessing: Preprocessing
    features: int
    knn: Accuracy
    linear: Accuracy
    l2: float
    right: NDArray[np.bool_]
    seconds: float

    @property
    def content(self) -> dict[str, Any]:
        """The fields as a result file states them."""
        return {name: msgspec.to_builtins(value) for name, value in vars(self).items() if name != "right"}


@dataclass(frozen=True)
class Difference:
    """The paired difference of the linear probes of two weights on the same images.

    Attributes:
        first, second: the names of the weights; `first` is the more accurate one.
        difference: top-1 of the first minus that of the second, in points.
        interval: its 95 % confidence interval in points (Bonett and Price, 2012).
        p: two-sided p of McNemar's exact test.
        p_holm: p after Holm's correction for all pairs of weights.
    """

    first: str
    second: str
    difference: float
    interval: tuple[float, float]
    p: float
    p_holm: float


def probe(
    model: Backbone,
    images: Images,
    preprocessing: Preprocessing,
    *,
    neighbours: int,
    device: torch.device,
    workers: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Probed:
    """Extract the features of all images, and judge them by their nearest neighbours and by a linear probe.

    Args:
        model: the network with its weights.
        images: training and validation images.
        preprocessing: how they are prepared for the network.
        neighbours: how many training images vote on the class of a validation image.
        device: where the network runs.
        workers: number of worker processes.
        progress: called with each number of images that are finished.

    Raises what `features.extract` raises.
    """
    assert model.weights is not None
    start = time.perf_counter()
    train, val = (
        extract(model, each, preprocessing, device=device, workers=workers, progress=progress) for each in (images.train, images.val)
    )
    labels = torch.from_numpy(images.train_labels)
    linear = choose_probe(train, labels, len(images.classes), torch.from_numpy(images.held_out))
    right = linear.logits(val).argmax(1).numpy() == images.val_labels
    return Probed(
        weights=model.weights.name,
        model=model.name,
        sha256=model.weights.digest(),
        preprocessing=preprocessing,
        features=train.shape[1],
        knn=Accuracy.of(nearest_neighbours(train, labels, val, neighbours).numpy() == images.val_labels),
        linear=Accuracy.of(right),
        l2=linear.l2,
        right=right,
        seconds=round(time.perf_counter() - start, 1),
    )


def ranked(probed: Sequence[Probed]) -> list[Probed]:
    """Return the weights in the order of their linear probes, the most accurate first."""
    return sorted(probed, key=lambda each: -each.linear.top1)


def differences(probed: Sequence[Probed]) -> list[Difference]:
    """Return the differences of all pairs of weights, those of the most accurate weight first."""
    pairs = list(itertools.combinations(ranked(probed), 2))
    lost_won = [(int((~a.right & b.right).sum()), int((a.right & ~b.right).sum())) for a, b in pairs]
    ps = [mcnemar(lost, won) for lost, won in lost_won]
    found = []
    for (a, b), (lost, won), p, p_holm in zip(pairs, lost_won, ps, holm(ps), strict=True):
        n = len(a.right)
        low, high = paired_interval(lost, won, n)
        found.append(Difference(a.weights, b.weights, round(100 * (won - lost) / n, 4), (round(low, 4), round(high, 4)), p, p_holm))
    return found


def conclusion(probed: Sequence[Probed], found: Sequence[Difference], majority: float) -> str:
    """Return sentences that say which weight suits the images, and whether the differences are significant.

    `found` are the differences of all pairs, and `majority` is the share of the largest class in percent.
    """
    best, *others = ranked(probed)
    low, high = best.linear.interval
    n = len(best.right)
    accuracy = f"{best.linear.top1:.2f} % of {count(n, 'image')} (95 % CI {low:.2f} to {high:.2f})"
    if low <= majority:
        return (
            f"No weight suits these images: the best linear probe, on {best.weights}, is right for {accuracy}, which is not significantly "
            f"more than the share of the largest class, {majority:.2f} %."
        )
    if not others:
        return f"A linear probe on {best.weights} is right for {accuracy}; the largest class has {majority:.2f} %."
    ahead = [each for each in found if each.first == best.weights]
    clear, unclear = ([each for each in ahead if (each.p_holm < 0.05) == significant] for significant in (True, False))
    sentences = [f"{best.weights} suits these images best: its linear probe is right for {accuracy}."]
    if clear:
        sentences.append(f"It is significantly better than {_listed(clear)}.")
    if unclear:
        cheaper = "" if clear else "; more validation images would tell them apart, or choose by cost"
        sentences.append(f"The difference from {_listed(unclear)} is not significant{cheaper}.")
    corrected = f", after Holm's correction for {count(len(found), 'pair')}" if len(found) > 1 else ""
    sentences.append(f"(McNemar's exact test at 0.05{corrected}.)")
    return " ".join(sentences)


def _listed(found: Sequence[Difference]) -> str:
    return all_of(f"{each.second} ({words.points(each.difference)} points)" for each in found)
