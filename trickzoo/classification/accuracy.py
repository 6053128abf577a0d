"""The accuracy of a classifier on a set, with its 95 % interval, and the published accuracy of its weight beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from trickzoo.classification.evaluate import SetPredictions
from trickzoo.classification.metrics import top_k_hits, wilson_percent
from trickzoo.weights.record import Metric

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Top-1 and top-5 accuracy in percent, the number of hits, and the 95 % interval in percent (Wilson's).

    `classes` is the number of classes that the model chose among.
    """

    classes: int
    top1: float
    top1_correct: int
    top1_interval: Interval
    top5: float
    top5_correct: int
    top5_interval: Interval


@dataclass(frozen=True, kw_only=True)
class Published:
    """The published figure of a weight, compared with the measured one. Unset fields are left out of the result file.

    Attributes:
        comparable: whether both are figures of the same measurement.
        reason: why they are not comparable.
        top1: the published top-1 accuracy in percent.
        top5: the published top-5 accuracy in percent.
        data: the data set of the published figures.
        source: where they were published.
        within_interval: whether the published top-1 lies in the measured 95 % interval.
    """

    comparable: bool
    reason: str | UnsetType = UNSET
    top1: float | UnsetType = UNSET
    top5: float | UnsetType = UNSET
    data: str | UnsetType = UNSET
    source: str | UnsetType = UNSET
    within_interval: bool | UnsetType = UNSET


def restricted_accuracy(predictions: SetPredictions) -> Accuracy | None:
    """Return the accuracy among the classes that occur in the set, or None if every class of the model occurs, or only one."""
    if predictions.restricted is None:
        return None
    return measure(predictions.restricted, predictions.labels, len(np.unique(predictions.labels)))


def measure(top: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> Accuracy:
    """Return the accuracy of (n, 5) indices of so many classes, the most probable first, against (n,) true class indices."""
    n = len(labels)
    percents, intervals = [], []
    hits = [top_k_hits(top, labels, k) for k in (1, 5)]
    for count in hits:
        percents.append(round(100 * count / n, 4))
        intervals.append(wilson_percent(count, n))
    return Accuracy(
        classes=classes,
        top1=percents[0],
        top1_correct=hits[0],
        top1_interval=intervals[0],
        top5=percents[1],
        top5_correct=hits[1],
        top5_interval=intervals[1],
    )


def compare(measured: Accuracy, n: int, published: Metric | None, *, of_classes: tuple[int, int] | None = None) -> Published:
    """Compare the accuracy measured on `n` images with the published one.

    `of_classes` is the number of classes in the set and the number that the model has, where they differ.
    """
    if published is None:
        return Published(comparable=False, reason="no figure is published for this weight and preprocessing")
    reason: str | UnsetType = UNSET
    within: bool | UnsetType = UNSET
    if of_classes is not None:
        reason = f"{of_classes[0]} of {of_classes[1]} classes are in this set"
    elif published.n is not None and published.n != n:
        reason = f"it was measured on {published.n:,} images, this one on {n:,}"
    else:
        low, high = measured.top1_interval
        within = low <= published.top1 <= high
    return Published(
        comparable=reason is UNSET,
        reason=reason,
        top1=published.top1,
        top5=published.top5,
        data=published.data,
        source=published.source,
        within_interval=within,
    )
