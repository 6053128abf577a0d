"""The output of `--plan` of both studies: the differences that a number of seeds detects, and the time that this takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trickzoo.cli.printing import say, say_json, table
from trickzoo.errors import BadOption
from trickzoo.studies import power
from trickzoo.studies.outlook import Outlook
from trickzoo.wording import count, duration

SEEDS = (2, 3, 5, 10, 20, 30)
EFFECTS = (1.0, 2.0)


def print_outlooks(outlooks: Sequence[Outlook], out: Path, *, json: bool) -> None:
    """Print a table for each comparison of the study in `out`, and the number of seeds that detect differences of 1 and 2 points.

    With `json` the same is printed as JSON.

    Raises BadOption if there is no comparison, because fewer than two seeds are finished or their differences are equal.
    """
    if not outlooks:
        raise BadOption(
            f"the finished training runs in {out} give no standard deviation over seeds; guess it in points, for example with --plan-sd 2"
        )
    if json:
        say_json(
            [
                {
                    **asdict(found),
                    "seconds": found.seconds(1) if found.rungs else None,
                    "detectable": _detectable(found),
                    "needed": _seeds_needed(found),
                }
                for found in outlooks
            ]
        )
        return
    for found in outlooks:
        say("")
        say(f"{found.title}: {_spread(found)}")
        table(*_table(found))
        for each in _seeds_needed(found):
            corrected = f"; after Holm {_in_words(each['seeds_holm'], found)}" if "seeds_holm" in each else ""
            say(f"{each['points']:g} point{'s' if each['points'] != 1 else ''}: {_in_words(each['seeds'], found)}{corrected}")
    say("")
    say("Detectable: the smallest true difference that is significant with 80 % power (paired t test, two-sided, alpha = 0.05).")
    if any(found.comparisons > 1 for found in outlooks):
        say("After Holm: the same at the first, strictest step of Holm's correction, alpha = 0.05 / comparisons.")


def _spread(found: Outlook) -> str:
    if found.interval is None:
        return f"standard deviation {found.sd:g} points, a guess"
    low, high = found.interval
    return (
        f"standard deviation {found.sd:.2f} points over seeds (95 % CI {low:.2f} to {high:.2f}; "
        f"pooled over {count(found.pooled, 'comparison')}, n = {count(found.seeds, 'seed')})"
    )


def _detectable(found: Outlook) -> list[dict[str, Any]]:
    """Return the smallest difference that each number of seeds detects, also after Holm's correction if there are several comparisons."""
    return [
        {
            "seeds": n,
            "points": power.detectable(found.sd, n),
            **({"points_holm": power.detectable(found.sd, n, found.holm_alpha)} if found.comparisons > 1 else {}),
            **({"seconds": found.seconds(n)} if found.rungs else {}),
        }
        for n in SEEDS
    ]


def _seeds_needed(found: Outlook) -> list[dict[str, Any]]:
    """Return the number of seeds that detect each difference, likewise; None for more than `power.MOST_SEEDS`."""
    return [
        {
            "points": effect,
            "seeds": power.seeds_for(effect, found.sd),
            **({"seeds_holm": power.seeds_for(effect, found.sd, found.holm_alpha)} if found.comparisons > 1 else {}),
        }
        for effect in EFFECTS
    ]


def _table(found: Outlook) -> tuple[list[str], list[list[str]]]:
    """Return the titles of the columns, and the rows."""
    titles = {
        "seeds": "seeds",
        "points": "detectable, points",
        "points_holm": f"after Holm ({found.comparisons})",
        "seconds": "all rungs take",
    }
    rows = _detectable(found)
    shown: dict[str, Any] = {"seeds": str, "seconds": duration}
    return [titles[name] for name in rows[0]], [[shown.get(name, "{:.2f}".format)(value) for name, value in row.items()] for row in rows]


def _in_words(seeds: int | None, found: Outlook) -> str:
    if seeds is None:
        return f"more than {power.MOST_SEEDS:,} seeds"
    return ", ".join([count(seeds, "seed"), *([duration(found.seconds(seeds))] if found.rungs else [])])
