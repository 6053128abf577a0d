"""Classification metrics, as pure functions of predictions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""The number of bins, of equal width, into which confidences are sorted to judge their calibration."""


def wilson_interval(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a proportion (Wilson 1927), which stays inside [0, 1] even for 0 or n hits.

    The result is (low, high) as fractions. Raises ValueError unless 0 ≤ hits ≤ n and n > 0.
    """
    from scipy.stats import binomtest

    if not 0 <= hits <= n or n == 0:
        raise ValueError(f"wilson_interval: {hits} of {n} is not a proportion")
    low, high = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    return float(max(0.0, low)), float(min(1.0, high))


def wilson_percent(hits: int, n: int) -> tuple[float, float]:
    """Return `wilson_interval` in percent with four decimals, as result files state it. Raises the same error."""
    low, high = wilson_interval(hits, n)
    return round(100 * low, 4), round(100 * high, 4)


def confidence_bins(confidence: NDArray[np.floating], bins: int) -> NDArray[np.int64]:
    """Return (n,) the bin of each confidence, from 0, of `bins` bins of equal width. Bin i is (i/bins, (i + 1)/bins]."""
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def expected_calibration_error(confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = BINS) -> float:
    """Return the mean gap between confidence and accuracy over bins of equal width as a fraction (Guo et al., arXiv 1706.04599, eq. 3).

    `confidence` (n,) is the probability of the predicted class, and `correct` (n,) whether the prediction is correct. Without predictions
    the result is 0.
    """
    which = confidence_bins(confidence, bins)
    weight = np.bincount(which, minlength=bins)
    gap = np.abs(np.bincount(which, confidence, bins) - np.bincount(which, correct, bins))
    return float(gap.sum() / max(weight.sum(), 1))


def reported_ranks(num_classes: int) -> tuple[int, ...]:
    """Return the k of the top-k accuracies to report: 1, and also 5 if there are more than five classes.

    With five classes or fewer, the top-5 accuracy is always 100 %.
    """
    return (1, 5) if num_classes > 5 else (1,)


def top_k_hits(top: NDArray[np.integer], labels: NDArray[np.integer], k: int) -> int:
    """Return how many of the (n,) labels are among the first k predictions of their image.

    `top` is (n, m) predicted classes, the most probable first, where m is at least k or the number of classes.
    """
    return int((top[:, :k] == labels[:, None]).any(1).sum())
