"""The output of `--plan` of both studies: the differences that a number of seeds detects, and the time that this takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trickzoo.cli.printing import say, table
from trickzoo.errors import BadOption
from trickzoo.evidence import count, duration
from trickzoo.studies import power
from trickzoo.studies.outlook import Outlook

SEEDS = (2, 3, 5, 10, 20, 30)
EFFECTS = (1.0, 2.0)


def print_outlooks(outlooks: Sequence[Outlook], out: Path) -> None:
    """Print a table for each comparison of the study in `out`, and the number of seeds that detect differences of 1 and 2 points.

    Raises BadOption if there is no comparison, because fewer than two seeds are finished or their differences are equal.
    """
    if not outlooks:
        raise BadOption(
            f"the finished trainings in {out} give no standard deviation over seeds; guess it in points, for example with --plan-sd 2"
        )
    for found in outlooks:
        say("")
        say(f"{found.title}: {_spread(found)}")
        table(*_table(found))
        for effect in EFFECTS:
            say(f"{effect:g} point{'s' if effect != 1 else ''}: {_needed(found, effect, power.ALPHA)}{_corrected(found, effect)}")
    say("")
    say("Detectable: the smallest true difference that is significant with 80 % power (paired t test, two-sided, alpha = 0.05).")
    say("After Holm: the same at the first, strictest step of Holm's correction, alpha = 0.05 / comparisons.")


def _spread(found: Outlook) -> str:
    if found.interval is None:
        return f"standard deviation {found.sd:g} points, a guess"
    low, high = found.interval
    return (
        f"standard deviation {found.sd:.2f} points over seeds (95 % CI {low:.2f} to {high:.2f}; "
        f"pooled over {count(found.comparisons, 'comparison')}, n = {count(found.seeds, 'seed')})"
    )


def _table(found: Outlook) -> tuple[list[str], list[list[str]]]:
    """Return the titles of the columns, and the rows."""
    several = found.comparisons > 1
    titles = ["seeds", "detectable, points", *([f"after Holm ({found.comparisons})"] if several else [])]
    alphas = (power.ALPHA, *((found.holm_alpha,) if several else ()))
    rows = [[str(n), *(f"{power.detectable(found.sd, n, alpha):.2f}" for alpha in alphas), *_time(found, n)] for n in SEEDS]
    return [*titles, *(["all rungs take"] if found.seconds else [])], rows


def _time(found: Outlook, seeds: int) -> list[str]:
    return [duration(seeds * found.seconds)] if found.seconds else []


def _needed(found: Outlook, effect: float, alpha: float) -> str:
    seeds = power.seeds_for(effect, found.sd, alpha)
    if seeds is None:
        return f"more than {power.MOST_SEEDS:,} seeds"
    return ", ".join([count(seeds, "seed"), *_time(found, seeds)])


def _corrected(found: Outlook, effect: float) -> str:
    return f"; after Holm {_needed(found, effect, found.holm_alpha)}" if found.comparisons > 1 else ""
