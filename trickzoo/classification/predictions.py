"""The predictions of a classifier for a set of images, and the metrics of each class that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trickzoo import result_files
from trickzoo.classification.metrics import BINS, confidence_bins, reported_ranks, top_k_hits


@dataclass(frozen=True)
class Predictions:
    """The predictions of a classifier for a set of images.

    Attributes:
        names: (n,) names of the images; empty if they have none.
        labels: (n,) true classes, as indices into `classes`.
        top: (n, k) predicted classes, the most probable first; k is 5, or the number of classes if there are fewer.
        confidence: (n, k) their probabilities.
        classes: names of the classes, in the order of the network's outputs.
    """

    names: Sequence[str]
    labels: NDArray[np.int64]
    top: NDArray[np.int64]
    confidence: NDArray[np.floating]
    classes: Sequence[str]

    @property
    def right(self) -> NDArray[np.bool_]:
        """(n,) whether the most probable class is the true one."""
        return self.top[:, 0] == self.labels

    def name(self, index: int) -> str:
        """Return the name of an image, or its number if it has none."""
        return self.names[index] if len(self.names) else f"image {index}"

    def confusion(self) -> NDArray[np.int64]:
        """Return the (K, K) numbers of images by true class (row) and predicted class (column)."""
        k = len(self.classes)
        return np.bincount(k * self.labels + self.top[:, 0], minlength=k * k).reshape(k, k)


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write the most probable classes of each image to a CSV file, with their probabilities. Raises NotWritten if it cannot be written."""
    ranks = range(1, predictions.top.shape[1] + 1)
    rows = (
        [predictions.name(i), predictions.classes[label], *(predictions.classes[each] for each in top), *(f"{p:.6f}" for p in probability)]
        for i, (label, top, probability) in enumerate(zip(predictions.labels, predictions.top, predictions.confidence, strict=True))
    )
    result_files.write_csv(path, ["image", "class", *(f"top{k}" for k in ranks), *(f"p{k}" for k in ranks)], rows)


@dataclass(frozen=True)
class PerClass:
    """(K,) metrics of each class, in 0…1, NaN where one is not defined: no image has the class, or none is predicted to have it."""

    n: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]


def per_class(confusion: NDArray[np.int64]) -> PerClass:
    """Return precision, recall and F1 of each class of a (K, K) confusion matrix. F1 is 2 · hits / (true + predicted)."""
    hits, true, predicted = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    return PerClass(true, _ratio(hits, predicted), _ratio(hits, true), _ratio(2 * hits, true + predicted))


def metrics(predictions: Predictions) -> dict[str, float]:
    """Return top-1 and top-5 accuracy, the mean recall (balanced accuracy) and the mean F1 over the classes, in percent.

    The result has a top-5 accuracy only if there are more than five classes (`reported_ranks`). A class without images has no recall. If
    it is never predicted either, it has no F1. The means are over the other classes.
    """
    found, n = per_class(predictions.confusion()), len(predictions.labels)
    ranks = reported_ranks(len(predictions.classes))
    accuracies = {f"top{k}": 100 * top_k_hits(predictions.top, predictions.labels, k) / n for k in ranks}
    means = {"balanced_accuracy": found.recall, "macro_f1": found.f1}
    return {**accuracies, **{name: 100 * float(np.nanmean(values)) for name, values in means.items()}}


def _ratio(numbers: NDArray[np.int64], of: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(numbers, of, out=np.full(len(of), np.nan), where=of > 0)


def most_confused(confusion: NDArray[np.int64], most: int) -> list[tuple[int, int, int]]:
    """Return up to `most` triples of true class, predicted class and number of images, for the most frequent errors."""
    errors = confusion.copy()
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors, axis=None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, errors.shape), strict=True)
    return [(int(true), int(predicted), int(errors[true, predicted])) for true, predicted in pairs if errors[true, predicted]]


def reliability(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> list[tuple[float, float, int]]:
    """Return (mean confidence, accuracy, number of images) of each bin of equal width that holds an image, as for the ECE."""
    which = confidence_bins(confidence, BINS)
    inside = [which == each for each in np.unique(which)]
    return [(float(confidence[each].mean()), float(right[each].mean()), int(each.sum())) for each in inside]


def most_confident_mistakes(predictions: Predictions, most: int) -> list[int]:
    """Return the indices of up to `most` wrong images, those with the highest confidence first."""
    wrong = np.flatnonzero(~predictions.right)
    return wrong[np.argsort(-predictions.confidence[wrong, 0], kind="stable")][:most].tolist()


def least_certain(predictions: Predictions, most: int) -> list[int]:
    """Return the indices of up to `most` images, those with the smallest margin of the first class over the second one first."""
    if predictions.confidence.shape[1] < 2:
        return []
    margin = predictions.confidence[:, 0] - predictions.confidence[:, 1]
    return np.argsort(margin, kind="stable")[:most].tolist()
