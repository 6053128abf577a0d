"""The number of seeds that a study needs, from the spread of its finished seeds or a guess: detectable differences and their cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trickzoo.studies import power
from trickzoo.studies.records import LadderStudy, StudyRung, TaskStudy
from trickzoo.studies.samples import UNCLEAR, Interval
from trickzoo.wording import count, duration

FEW = 30
"""The largest number of seeds that the advice suggests."""
AIM = 2.0
"""The difference, in points, that a study at a small scale should be able to detect."""


@dataclass(frozen=True)
class Outlook:
    """The quantities that determine the power of a study.

    Attributes:
        title: name of the comparison.
        sd: standard deviation of the paired differences over seeds, in points: pooled over the comparisons, or a guess.
        interval: its 95 % confidence interval, by the chi-squared distribution; None for a guess.
        comparisons: number of paired differences that the study tests.
        pooled: number of those over which `sd` is pooled; 0 for a guess.
        seeds: number of finished seeds; if some comparisons are not significant so far, the smallest of theirs.
        unclear: whether at least one comparison is not significant so far.
        rungs: for each rung the number of its finished seeds, and the time of one training run; empty if no training is finished.
    """

    title: str
    sd: float
    interval: Interval | None
    comparisons: int
    pooled: int = 0
    seeds: int = 0
    unclear: bool = True
    rungs: tuple[tuple[int, float], ...] = ()

    def seconds(self, seeds: int) -> float:
        """Return the time in which all rungs are trained with this number of seeds."""
        return seeds * sum(each for _, each in self.rungs)

    def seconds_left(self, seeds: int) -> float:
        """Return the time of the training runs that are missing until each rung has this number of seeds."""
        return sum(max(seeds - finished, 0) * each for finished, each in self.rungs)

    @property
    def holm_alpha(self) -> float:
        """The significance level of the strictest step of Holm's correction."""
        return power.ALPHA / max(self.comparisons, 1)


def of_ladder(study: LadderStudy, guess: float | None = None) -> Outlook | None:
    """Return the outlook of a ladder study, from a guessed standard deviation or that of its seeds; None if these give no estimate."""
    return _outlook("difference from the rung it builds on, top-1 points", [(rung, rung.base) for rung in study.rungs], guess)


def of_task(task: TaskStudy, guess: float | None = None) -> Outlook | None:
    """Return the outlook of one task of a transfer study, from a guessed standard deviation or that of its seeds; None without either."""
    first = task.rungs[0].rung
    return _outlook(f"{task.task}: difference from the first rung, points", [(rung, first) for rung in task.rungs], guess)


def of_guess(rungs: int, guess: float | None) -> Outlook | None:
    """Return the outlook of a study with this number of rungs that has not started; None without a guessed standard deviation."""
    return None if guess is None else Outlook("paired difference of two rungs, points", guess, None, max(rungs - 1, 1))


def _outlook(title: str, compared: Sequence[tuple[StudyRung, str | None]], guess: float | None) -> Outlook | None:
    """Return the outlook of rungs, each with the name of the rung that it is compared with."""
    rungs = [rung for rung, _ in compared]
    spreads = [
        (found.s, found.n - 1, {rung.rung, base}) for rung, base in compared if (found := rung.difference) and found.interval and found.s
    ]
    if guess is None and not spreads:
        return None
    sd, interval = (guess, None) if guess is not None else pooled_spread(spreads)
    times = [sum(rung.wall_seconds) / len(rung.wall_seconds) if rung.wall_seconds else None for rung in rungs]
    known = [each for each in times if each is not None]
    usual = sum(known) / len(known) if known else 0.0
    unclear = [found.n for rung in rungs if (found := rung.difference) and found.verdict == UNCLEAR]
    return Outlook(
        title,
        sd,
        interval,
        comparisons=max(len(rungs) - 1, 1),
        pooled=len(spreads) if guess is None else 0,
        seeds=min(unclear) if unclear else max((len(rung.seeds) for rung in rungs), default=0),
        unclear=bool(unclear),
        rungs=tuple((len(rung.seeds), usual if each is None else each) for rung, each in zip(rungs, times, strict=True)) if known else (),
    )


def pooled_spread(spreads: Sequence[tuple[float, int, set[str | None]]]) -> tuple[float, Interval]:
    """Return the pooled standard deviation of paired differences, and its 95 % interval.

    Each difference is given as (s, degrees of freedom, names of its two rungs). Two differences that share a rung have a correlation of
    1/2 or -1/2, so that their squared standard deviations have one of 1/4. The degrees of freedom of the pooled one are therefore fewer
    than their sum (Satterthwaite, 1946).
    """
    from scipy.stats import chi2

    freedom = sum(df for _, df, _ in spreads)
    squares = math.fsum(s * s * df for s, df, _ in spreads)
    shared = sum((len(one & other) / 2) ** 2 * min(df, df2) for _, df, one in spreads for _, df2, other in spreads)
    effective = freedom * freedom / shared
    sd = math.sqrt(squares / freedom)
    low, high = (sd * math.sqrt(effective / float(chi2.ppf(q, effective))) for q in (0.975, 0.025))
    return sd, (low, high)


def advice(found: Outlook | None, *, after: str = "") -> str | None:
    """Return a sentence on how many seeds to run next; None if every comparison is significant, or with fewer than two seeds.

    `after` says what has to be done first, such as "the ladder has trained these seeds". The stated time does not include it.
    """
    if found is None or not found.unclear or found.seeds < 2:
        return None
    now = power.detectable(found.sd, found.seeds)
    spread = f"The paired differences have a pooled standard deviation of {found.sd:.2f} points"
    detects = f"{spread}. With this spread, {count(found.seeds, 'seed')} detect a difference of {now:.2f} points with 80 % power"
    needed = power.seeds_for(AIM, found.sd)
    if needed is not None and needed <= found.seeds:
        return f"{detects}. The confidence intervals show how large the other differences can be."
    if needed is not None and needed <= FEW:
        return f"{detects}; to detect {AIM:g} points, use --seeds {needed}{_more(found, needed, after)}."
    more = min(FEW, max(10, 2 * found.seeds))
    lesser = f"--seeds {more} would detect {power.detectable(found.sd, more):.2f}{_more(found, more, after)}"
    return f"{detects}; {lesser}. For smaller differences, compare fewer rungs (--rungs) with more seeds."


def _more(found: Outlook, seeds: int, after: str) -> str:
    return f" (about {duration(found.seconds_left(seeds))} more on the same machine{after and f', after {after}'})" if found.rungs else ""
