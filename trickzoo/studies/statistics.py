"""Means over seeds and rank correlations, with their intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LEVEL = 0.95
LEAST_PAIRS = 4
"""Fewer pairs give no interval of a rank correlation."""
ENUMERATED = 8
"""Up to so many pairs every permutation is counted."""
PERMUTATIONS = math.factorial(ENUMERATED)
DRAWS = 40_000


@dataclass(frozen=True)
class Estimate:
    """What a few repetitions say of a mean.

    Attributes:
        values: the repetitions.
        s: sample standard deviation (n - 1); None for one value.
        interval: 95 % confidence interval of the mean by Student's t; None where there is no spread to take it from.
        p: two-sided p of Student's t test that the mean is 0; None likewise.
    """

    values: tuple[float, ...]
    mean: float
    s: float | None
    interval: tuple[float, float] | None
    p: float | None

    @property
    def n(self) -> int:
        """Number of repetitions."""
        return len(self.values)


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, standard deviation, interval and test of values that were drawn independently, from a distribution taken to be normal.

    Of one value, or of equal ones, neither interval nor p is given: a spread cannot be estimated from them.
    Raises ValueError without values.
    """
    from scipy.stats import ttest_1samp

    n = len(values)
    if n == 0:
        raise ValueError("estimate: no values")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(tuple(values), mean, None, None, None)
    if _constant(values):
        return Estimate(tuple(values), mean, 0.0, None, None)
    test = ttest_1samp(values, 0)
    low, high = test.confidence_interval(LEVEL)
    return Estimate(tuple(values), mean, statistics.stdev(values), (float(low), float(high)), float(test.pvalue))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p values (1979): the chance that any of them is below 0.05 when no effect is real is at most 5 %."""
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
        rho: as `spearman` gives it.
        interval: 95 % confidence interval; None for fewer than four pairs.
        p: two-sided p of the permutation test that the two sides have nothing to do with one another; None likewise.
    """

    n: int
    rho: float | None
    interval: tuple[float, float] | None
    p: float | None


def spearman(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Spearman's rank correlation of pairs, ties having their mean rank; None for one pair, or where one side is constant."""
    if len(xs) != len(ys):
        raise ValueError(f"spearman: {len(xs)} and {len(ys)} values")
    if len(xs) < 2 or _constant(xs) or _constant(ys):
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(xs, ys).statistic)


def rank_correlation(xs: Sequence[float], ys: Sequence[float]) -> RankCorrelation:
    """Spearman's rho of pairs, with the interval and the test for a few of them.

    The interval is made of all correlations that would not be rejected: those under which a rho as high as this one, and one as low, both
    have a chance of 2.5 % or more. The chance is counted in 40,000 draws by a fixed generator from two normal variables, or any increasing
    functions of such, which ranks do not tell apart; their rank correlation is 6/pi arcsin(r/2) (Pearson 1907). It covers 95 % or more for
    four pairs too, and for a rho of 1, where resampling the pairs gives far too short an interval, or one of length 0.
    p is that of all permutations, beyond eight pairs of 40,320 random ones. Both take the pairs to be drawn independently.
    Raises ValueError for sides of different lengths.
    """
    from scipy.stats import permutation_test, rankdata

    n, rho = len(xs), spearman(xs, ys)
    if rho is None or n < LEAST_PAIRS:
        return RankCorrelation(n, rho, None, None)
    ranks = rankdata(ys) - (n + 1) / 2
    test = permutation_test(  # for given ranks, rho is their scalar product but for a factor
        (rankdata(xs),), lambda x, axis=-1: (x * ranks).sum(axis), permutation_type="pairings", vectorized=True, n_resamples=PERMUTATIONS,
        random_state=0,
    )  # fmt: skip
    return RankCorrelation(n, rho, (_lower_end(rho, n), -_lower_end(-rho, n)), float(test.pvalue))


def _lower_end(rho: float, n: int) -> float:
    """The rank correlation under which `rho` or more is seen in n pairs with a chance of 2.5 %."""
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
    """Ranks within each row, of values without ties."""
    return values.argsort(axis=1).argsort(axis=1)


def _constant(values: Sequence[float]) -> bool:
    """Whether values are equal but for rounding."""
    return max(values) - min(values) <= 1e-9 * max(1.0, *map(abs, values))
