"""The command `trickzoo compare`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from trickzoo import evidence
from trickzoo.cli.options import Json
from trickzoo.cli.printing import say, say_json, table
from trickzoo.studies import words
from trickzoo.studies.comparison import Changed, Comparison
from trickzoo.studies.comparison import compare as compare_files

SHOWN = 10
"""How many images that changed are printed in each direction."""


def compare(
    first: Path,
    second: Path,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Write all images that changed to this CSV file.")] = None,
    json: Json = False,
) -> None:
    """Compare two classifiers on the same images: the paired difference of top-1, and the images that changed.

    FIRST and SECOND are folders of trainings, or files that `trickzoo eval imagenet --predictions` wrote. The difference has a 95 %
    confidence interval, and p is that of McNemar's exact test. Both are about these images: they do not cover the spread over seeds.
    """
    if out is not None:
        evidence.check_writable(out)
    found = compare_files(first, second)
    if out is not None:
        rows = [(change, each) for change, group in (("lost", found.lost), ("won", found.won)) for each in group]
        columns = ("change", "image", "class", "first", "second")
        evidence.write_csv(out, columns, ((change, each.image, each.label, each.first, each.second) for change, each in rows))
    if json:
        say_json({"what": "comparison", "first": str(first), "second": str(second), **asdict(found)})
        return
    _tell(first, second, found)


def _tell(first: Path, second: Path, found: Comparison) -> None:
    low, high = found.interval
    say(f"{first}: top-1 {found.top1[0]:.2f} % of {found.n:,} images")
    say(f"{second}: top-1 {found.top1[1]:.2f} %")
    significant = "significant" if found.p < 0.05 else "not significant"
    say(
        f"difference {found.difference:+.2f} points (95 % CI {low:+.2f} to {high:+.2f}), McNemar's exact p {words.probability(found.p)}: "
        f"{significant} at 0.05"
    )
    for title, group in (("only the first is right", found.lost), ("only the second is right", found.won)):
        say("")
        say(f"{title}: {len(group):,} images")
        if group:
            _list(group)


def _list(group: tuple[Changed, ...]) -> None:
    rows = [(each.image, each.label, each.first, each.second) for each in group[:SHOWN]]
    table(("image", "class", "first", "second"), rows, left=("image", "class", "first", "second"))
    if len(group) > SHOWN:
        say(f"and {len(group) - SHOWN:,} more; --out writes all of them")
