"""Means over seeds with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.95


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
    from scipy.stats import t

    n = len(values)
    if n == 0:
        raise ValueError("estimate: no values")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(tuple(values), mean, None, None, None)
    s = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    if max(values) - min(values) <= 1e-9 * max(1.0, abs(mean)):  # equal but for rounding
        return Estimate(tuple(values), mean, 0.0, None, None)
    error = s / math.sqrt(n)
    half = float(t.ppf((1 + LEVEL) / 2, n - 1)) * error
    return Estimate(tuple(values), mean, s, (mean - half, mean + half), float(2 * t.sf(abs(mean) / error, n - 1)))


def holm(ps: Sequence[float]) -> list[float]:
    """P values adjusted for all of them being looked at (Holm 1979): the chance that any is below 0.05 with nothing behind it stays 5 %."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, least = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = least
    return adjusted
