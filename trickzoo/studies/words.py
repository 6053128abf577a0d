"""Metrics and comparisons as text, for the reports of both studies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from trickzoo.studies.records import Environment, StudyRung, Total
from trickzoo.studies.samples import HELPED, HURT, NO_INTERVAL, UNCLEAR, Difference, Interval
from trickzoo.wording import count

DECISIVE = ("trickzoo", "torch", "torchvision", "pillow", "numpy", "accelerate", "pycocotools")
"""The libraries whose version can change the result of a training run."""
UNKNOWN = "unknown"
"""What a sentence states in place of a commit or a version that a result file lacks."""

ALL_TRICKS = "all tricks"
"""Title of the last rung in a study of nothing but the two ends of the paper's whole ladder."""


def points(value: float) -> str:
    """Return a difference with its sign: "+1.23", "−0.45"."""
    return f"{value:+.2f}".replace("-", "−")


def span(interval: Interval | None) -> str:
    """Return the interval of a difference: "−0.45 to +1.23"."""
    return "none" if interval is None else f"{points(interval[0])} to {points(interval[1])}"


def probability(p: float) -> str:
    """Return a p value: "0.012", "< 0.001". One that is significant does not become 0.050."""
    if p < 0.001:
        return "< 0.001"
    return "< 0.050" if 0.0495 <= p < 0.05 else f"{p:.3f}"


def title(rung: StudyRung) -> str:
    """Return a rung's title, with the number of steps that it includes because their own rungs are not run."""
    steps = 0 if rung.title == ALL_TRICKS else len(rung.skipped)
    return rung.title + (f" with {count(steps, 'step')} before it" if steps else "")


def name(rung: StudyRung) -> str:
    """Return a rung's title for use in a sentence, without the number of steps that it includes."""
    return rung.title.removeprefix("+ ")


def step_name(rung: StudyRung) -> str:
    """Return a rung's title for use in a sentence, with the number of steps that it includes."""
    return title(rung).removeprefix("+ ")


def result_in_words(found: Difference | None) -> str:
    """Return a difference for a table's cell: "+4.85 (95 % CI +3.74 to +5.96, n = 3 seeds, p = 0.003)"."""
    if found is None:
        return "–"
    if found.interval is None or found.p is None:
        return f"{points(found.mean)} (n = {count(found.n, 'seed')}, no interval)"
    p = probability(found.p)
    return f"{points(found.mean)} (95 % CI {span(found.interval)}, n = {count(found.n, 'seed')}, p {p if p[0] == '<' else f'= {p}'})"


def of_seeds(found: Difference, seeds: int) -> str:
    """Return the number of seeds of a difference, if it is not that of its rung, because the other rung has other seeds: "5 seeds"."""
    return count(found.n, "seed") if found.n != seeds else ""


def significance(found: Difference) -> str:
    """Return the outcome of a paired t test: "helped", "not significant (detectable: 13.97)"."""
    return f"{UNCLEAR} (detectable: {found.detectable:.2f})" if found.verdict == UNCLEAR and found.detectable else found.verdict


def total_in_words(total: Total, rungs: Sequence[StudyRung], measure: str = "top-1 accuracy") -> str:
    """Return a sentence on the difference between a study's first and last rung; `measure` is the name of the figure."""
    by_name = {rung.rung: rung for rung in rungs}
    found, first, last = total.difference, by_name[total.first], by_name[total.last]
    if found is None:
        return "The gain over the whole ladder is not known yet: no seed has both its first and its last rung."
    every = last.title == ALL_TRICKS or (total.whole and "distillation" in total.last)
    tricks = "All tricks together" if every else f"The steps from {name(first)} to {name(last)} together"
    levels = ""
    if first.metric_of_study and last.metric_of_study and first.seeds == last.seeds == found.seeds:
        levels = f", from {first.metric_of_study.mean:.2f} % to {last.metric_of_study.mean:.2f} %"
    change = f"change {measure} by {points(found.mean)} points{levels}"
    if found.n == 1:
        return f"{tricks} {change}, in one training run of each, which gives no estimate of the spread over seeds."
    if found.interval is None:
        return f"{tricks} {change}, equally for all {found.n} seeds, so that no confidence interval can be given."
    inside = f"95 % CI {span(found.interval)}, n = {found.n} seeds"
    if found.verdict == UNCLEAR:
        return f"{tricks} {change}. The difference is not statistically significant ({inside})."
    verb = "raise" if found.verdict == HELPED else "lower"
    return f"{tricks} {verb} {measure} by {abs(found.mean):.2f} points{levels} ({inside})."


def environments_in_words(environments: Sequence[Environment]) -> Iterable[str]:
    """Yield a sentence on what differs between the environments of training runs, if anything that can change a result does."""
    values = {
        "machine": [each.hardware for each in environments],
        "processes": [str(each.processes) for each in environments],
        "commit": [_short(each.commit) if each.commit else UNKNOWN for each in environments],
        **{name: [each.versions.get(name, UNKNOWN) for each in environments] for name in DECISIVE},
    }
    parts = [f"{what} ({'; '.join(sorted(different))})" for what, each in values.items() if len(different := set(each)) > 1]
    if parts:
        yield f"The environment of the training runs differs, which can change a result too: {', '.join(parts)}."


def _short(commit: str) -> str:
    """Return the first digits of a commit, with the sign "+" of changes that were not committed."""
    return commit[:7] + "+" * (len(commit) > 7 and commit.endswith("+"))


STEPS = {
    HELPED: ("step improves top-1 accuracy significantly", "steps improve top-1 accuracy significantly"),
    HURT: ("step lowers top-1 accuracy significantly", "steps lower top-1 accuracy significantly"),
    UNCLEAR: ("step makes no statistically significant difference", "steps make no statistically significant difference"),
}
"""The text for one step and for several steps, by their verdict."""


def steps_in_words(
    rungs: Sequence[StudyRung],
    outcomes: dict[str, tuple[str, str]] = STEPS,
    called: Callable[[StudyRung], str] = step_name,
) -> Iterable[str]:
    """Yield sentences on which rungs' differences are significant, which are not, and which remain significant after Holm's correction.

    `outcomes` maps each verdict to its text for one rung and for several; `called` returns the name of a rung. With fewer than three rungs
    there are no sentences, because the difference over the whole ladder is the only one.
    """
    compared = [(rung, rung.difference) for rung in rungs if rung.difference]
    if len(rungs) < 3 or not compared:
        return
    for outcome, (one, several) in outcomes.items():
        these = [f"{called(rung)} ({points(found.mean)})" for rung, found in compared if found.verdict == outcome]
        if these:
            yield f"{f'One {one}' if len(these) == 1 else f'{len(these)} {several}'}: {', '.join(these)}."
    none = [f"{called(rung)} ({points(found.mean)})" for rung, found in compared if found.verdict == NO_INTERVAL]
    if none:
        yield f"One seed, or equal seeds, give no estimate of the spread and no confidence interval: {', '.join(none)}."
    corrected = {called(rung): found.p_holm for rung, found in compared if found.p_holm is not None}
    if any(found.verdict in (HELPED, HURT) for _, found in compared) and corrected:
        firm = [rung for rung, p in corrected.items() if p < 0.05]
        left = f"{'these differences are' if len(firm) > 1 else 'this difference is'} significant: {', '.join(firm)}" if firm else (
            "no difference is significant"
        )  # fmt: skip
        yield f"After Holm correction for {len(corrected)} comparisons, {left}."
