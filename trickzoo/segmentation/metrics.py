"""Intersection over union and pixel accuracy, all from one confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor

from trickzoo.data.masks import IGNORE
from trickzoo.errors import BadCheckpoint


class ConfusionMatrix:
    """Pixels by true class (row) and predicted class (column), in whole numbers, so that processes sum up exactly."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.counts: NDArray[np.int64] = np.zeros((len(self.classes),) * 2, np.int64)
        self.stray = 0
        """Judged pixels with a prediction that is no class."""

    def add(self, predicted: Tensor, truth: Tensor) -> None:
        """Count the pixels of two tensors of whole numbers and one shape, on one device. Truth of `IGNORE` is not judged."""
        if predicted.shape != truth.shape:
            raise ValueError(f"predictions of shape {tuple(predicted.shape)} for masks of {tuple(truth.shape)}")
        n = len(self.classes)
        judged, known = truth != IGNORE, (predicted >= 0) & (predicted < n)
        if bool((judged & ((truth < 0) | (truth >= n))).any()):
            raise ValueError(f"masks have values up to {int(truth[judged].max())}; there are {n} classes, and {IGNORE} is not judged")
        self.stray += int((judged & ~known).sum())
        pairs = (n * truth.long() + predicted.long()).where(judged & known, n * n)
        self.counts += torch.bincount(pairs.flatten(), minlength=n * n + 1)[:-1].view(n, n).cpu().numpy()

    def gather(self) -> None:
        """Sum over all processes; to be called on all, once. Each image must have been added by one of them.

        Raises BadCheckpoint, on all, if a prediction is no class.
        """
        parts = gather_object([(self.counts, self.stray)])
        self.counts, self.stray = sum(counts for counts, _ in parts), sum(stray for _, stray in parts)
        if self.stray:
            raise BadCheckpoint(
                f"{self.stray:,} pixels are predicted as none of the {len(self.classes)} classes; it was trained for others"
            )

    def summary(self) -> dict[str, Any]:
        """Mean IoU over the classes that occur, pixel accuracy and each class's IoU, in percent; None where there is no pixel."""
        pixels, each = int(self.counts.sum()), intersection_over_union(self.counts)
        return {
            "pixels": pixels,
            "miou": round(100 * float(np.nanmean(each)), 4) if pixels else None,
            "pixel_accuracy": round(100 * pixel_accuracy(self.counts), 4) if pixels else None,
            "per_class": {name: None if np.isnan(v) else round(100 * float(v), 4) for name, v in zip(self.classes, each, strict=True)},
        }


def intersection_over_union(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K, K) confusion matrix → (K,) IoU in 0…1. NaN for a class that is neither there nor predicted; one that is only predicted has 0."""
    right = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - right
    return np.divide(right, union, out=np.full(len(counts), np.nan), where=union > 0)


def pixel_accuracy(counts: NDArray[np.int64]) -> float:
    """Fraction of the judged pixels that are right."""
    return float(counts.trace() / counts.sum())
