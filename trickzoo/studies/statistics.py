"""Means over seeds and rank correlations, with their confidence intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LEVEL = 0.95
LEAST_PAIRS = 4
"""The smallest number of pairs for which a rank correlation has an interval."""
ENUMERATED = 8
"""The largest number of pairs for which every permutation is counted."""
PERMUTATIONS = math.factorial(ENUMERATED)
DRAWS = 40_000


@dataclass(frozen=True)
class Estimate:
    """A mean estimated from a few repetitions.

    Attributes:
        values: the repetitions.
        s: sample standard deviation (n - 1); None for one value.
        interval: 95 % confidence interval of the mean by Student's t; None for one value or equal values.
        p: two-sided p of Student's t test that the mean is 0; None for one value or equal values.
    """

    values: tuple[float, ...]
    mean: float
    s: float | None
    interval: tuple[float, float] | None
    p: float | None

    @property
    def n(self) -> int:
        """The number of repetitions."""
        return len(self.values)


def estimate(values: Sequence[float]) -> Estimate:
    """Return mean, standard deviation, interval and test of independent values, which are assumed to be normally distributed.

    One value, or equal values, give neither an interval nor a p, because the spread cannot be estimated from them.
    Raises ValueError if there are no values.
    """
    from scipy.stats import ttest_1samp

    n = len(values)
    if n == 0:
        raise ValueError("estimate: no values")
    mean = statistics.fmean(values)
    if n == 1:
        return Estimate(tuple(values), mean, None, None, None)
    if _constant(values):
        return Estimate(tuple(values), mean, 0.0, None, None)
    test = ttest_1samp(values, 0)
    low, high = test.confidence_interval(LEVEL)
    return Estimate(tuple(values), mean, statistics.stdev(values), (float(low), float(high)), float(test.pvalue))


def holm(ps: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p values (1979). If there is no true effect, the probability that any of them is below 0.05 is at most 5 %."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, least = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = least
    return adjusted


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation of n pairs.

    Attributes:
        rho: the correlation; None for one pair, or if one side is constant.
        interval: 95 % confidence interval; None without rho or for fewer than four pairs.
        p: two-sided p of the permutation test that the two sides are independent; None without an interval.
    """

    n: int
    rho: float | None
    interval: tuple[float, float] | None
    p: float | None


def spearman(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation of pairs, with mean ranks for ties; None for one pair, or if one side is constant."""
    if len(xs) != len(ys):
        raise ValueError(f"spearman: {len(xs)} and {len(ys)} values")
    if len(xs) < 2 or _constant(xs) or _constant(ys):
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(xs, ys).statistic)


def rank_correlation(xs: Sequence[float], ys: Sequence[float]) -> RankCorrelation:
    """Return Spearman's rho of pairs, with an interval and a test that are valid for small numbers of pairs.

    The interval contains every correlation that would not be rejected: under it, a rho at least as high as the observed one and a rho at
    least as low both have a probability of 2.5 % or more. The probability is estimated from 40,000 draws, with a fixed seed, of two normal
    variables whose rank correlation is 6/pi arcsin(r/2) (Pearson 1907). Since only ranks count, this includes increasing functions of
    normal variables. The coverage is 95 % or more even for four pairs and for a rho of 1, for which resampling the pairs gives an interval
    that is far too short or has length 0. p is computed from all permutations; for more than eight pairs, from 40,320 random ones.
    Interval and p assume that the pairs are independent. Raises ValueError if the two sides have different lengths.
    """
    from scipy.stats import permutation_test, rankdata

    n, rho = len(xs), spearman(xs, ys)
    if rho is None or n < LEAST_PAIRS:
        return RankCorrelation(n, rho, None, None)
    ranks = rankdata(ys) - (n + 1) / 2
    test = permutation_test(  # for given ranks, rho is proportional to their scalar product
        (rankdata(xs),), lambda x, axis=-1: (x * ranks).sum(axis), permutation_type="pairings", vectorized=True, n_resamples=PERMUTATIONS,
        random_state=0,
    )  # fmt: skip
    return RankCorrelation(n, rho, (_lower_end(rho, n), -_lower_end(-rho, n)), float(test.pvalue))


def _lower_end(rho: float, n: int) -> float:
    """Return the rank correlation under which n pairs have a rho of `rho` or more with a probability of 2.5 %."""
    import numpy as np

    a, b = np.random.default_rng(0).standard_normal((2, DRAWS, n))
    x = _ranks(a)

    def chance(r: float) -> float:
        y = _ranks(r * a + math.sqrt(1 - r * r) * b)
        return float(np.mean(1 - 6 * np.sum((x - y) ** 2, axis=1) / (n**3 - n) >= rho - 1e-9))

    low, high = -1.0, 1.0
    if chance(low) >= (1 - LEVEL) / 2:
        return -1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if chance(middle) >= (1 - LEVEL) / 2 else (middle, high)
    return 6 / math.pi * math.asin(low / 2)


def _ranks(values: Any) -> Any:
    """Return the ranks within each row of values without ties."""
    return values.argsort(axis=1).argsort(axis=1)


def _constant(values: Sequence[float]) -> bool:
    """Return whether values are equal up to rounding."""
    return max(values) - min(values) <= 1e-9 * max(1.0, *map(abs, values))
