"""A metric of several seeds, and the paired differences of two, with their intervals and verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from trickzoo.studies import power
from trickzoo.studies.statistics import estimate

HELPED, HURT, UNCLEAR, NO_INTERVAL = "helped", "hurt", "not significant", "no interval"
"""The verdicts on a paired difference: its 95 % confidence interval is above 0, is below 0, includes 0, or does not exist."""
Interval = tuple[float, float]
Points = Annotated[float, Meta(ge=-100, le=100)]
"""A percentage, or the difference of two."""
Spread = Annotated[float, Meta(ge=0, le=200)]
Count = Annotated[int, Meta(ge=0)]
Seed = Count


class Sample(Struct, frozen=True, kw_only=True):
    """A metric of each seed, with mean, standard deviation and confidence interval.

    Attributes:
        values: the metric of each seed.
        n: number of seeds.
        s: sample standard deviation (n - 1); None for one value.
        interval: 95 % confidence interval of the mean by Student's t; None for one value or equal values.
    """

    values: tuple[Points, ...]
    n: int
    mean: Points
    s: Spread | None
    interval: Interval | None

    def __post_init__(self) -> None:
        if not self.values or self.n != len(self.values):
            raise ValueError(f"n is {self.n}, but there are {len(self.values)} values")
        if self.interval and (self.interval[0] > self.interval[1] or not self.s):
            raise ValueError("the interval has no spread, or its ends are exchanged")


class Percentage(Sample, frozen=True, kw_only=True):
    """A sample of percentages, whose interval is cut at 0 and at 100."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.interval:
            low, high = self.interval
            force_setattr(self, "interval", (min(max(low, 0.0), 100.0), max(min(high, 100.0), 0.0)))


class Difference(Sample, frozen=True, kw_only=True):
    """The paired differences of two rungs by seed, in points. Their interval is cut at -100 and at 100.

    Attributes:
        p: two-sided p of the paired t test; None without an interval.
        p_holm: p after Holm's correction for all comparisons of the study; None if there is only one comparison.
        seeds: the seeds that both rungs have.
        verdict: `HELPED`, `HURT`, `UNCLEAR` or `NO_INTERVAL`; computed from the interval.
        detectable: smallest true difference that n seeds with this s detect with 80 % power at alpha = 0.05; None without an interval.
    """

    p: float | None
    p_holm: float | None = None
    seeds: tuple[Seed, ...]
    verdict: str = ""
    detectable: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.seeds) != self.n or (self.p is None) != (self.interval is None):
            raise ValueError("seeds, interval and p do not match")
        if self.interval:
            force_setattr(self, "interval", (max(self.interval[0], -100.0), min(self.interval[1], 100.0)))
        force_setattr(self, "verdict", _verdict(self.interval))
        force_setattr(self, "detectable", power.detectable(self.s, self.n) if self.interval and self.s else None)


def _verdict(interval: Interval | None) -> str:
    if interval is None:
        return NO_INTERVAL
    return HELPED if interval[0] > 0 else HURT if interval[1] < 0 else UNCLEAR


def percentage(values: Iterable[float]) -> Percentage | None:
    """Return the sample of these percentages; None if there are none."""
    repeated = list(values)
    if not repeated:
        return None
    found = estimate(repeated)
    return Percentage(values=found.values, n=found.n, mean=found.mean, s=found.s, interval=found.interval)


def difference(values: Mapping[int, float], base: Mapping[int, float]) -> Difference | None:
    """Return the paired difference of two rungs' metrics by seed, in points, over the seeds that both have; None without such seeds."""
    seeds = tuple(seed for seed in values if seed in base)
    if not seeds:
        return None
    found = estimate([round(values[seed] - base[seed], 4) for seed in seeds])
    return Difference(values=found.values, n=found.n, mean=found.mean, s=found.s, interval=found.interval, p=found.p, seeds=seeds)
