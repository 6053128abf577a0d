"""The command `trickzoo compare`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import Parameter

from trickzoo import bootstrap, result_files
from trickzoo.cli.options import Json, within
from trickzoo.cli.printing import say, say_json, table
from trickzoo.data.classes import describe_class
from trickzoo.errors import BadData, BadOption
from trickzoo.recipes.ranges import Range
from trickzoo.studies import words
from trickzoo.studies.comparison import Changed, Comparison, find
from trickzoo.studies.comparison import compare as compare_classifiers
from trickzoo.studies.ladder import in_words
from trickzoo.studies.samples import HELPED, HURT, UNCLEAR
from trickzoo.studies.seed_comparison import compare as compare_seeds
from trickzoo.studies.seed_comparison import trainings
from trickzoo.training.measures import MEASURES
from trickzoo.wording import count

if TYPE_CHECKING:
    from trickzoo.studies.annotated_comparison import AnnotatedComparison

SHOWN = 10
"""How many images that changed are printed in each direction."""
LEAST = 100
"""The smallest number of draws whose 2.5 % quantile means something."""
Compared = tuple[Callable[[Path, Path], None], Sequence[str], Sequence[Sequence[Any]], dict[str, Any]]
"""The function that prints a comparison, the columns and rows of its table, and its content as JSON."""
NETWORKS = {"classification": "a classifier", "detection": "a detector", "segmentation": "a segmenter"}


def compare(
    first: str,
    second: str,
    /,
    *,
    draws: Annotated[
        int | None,
        within(Range(f"{LEAST} or more", lambda draws: draws >= LEAST)),
        Parameter(help=f"Bootstrap draws behind the intervals of detectors and segmenters; by default {bootstrap.DRAWS:,}."),
    ] = None,
    out: Annotated[Path | None, Parameter(help="Write all images that changed to this CSV file.")] = None,
    json: Json = False,
) -> None:
    """Compare two networks of one task on the same images, or two recipes by several training runs of each.

    FIRST and SECOND are folders of training runs, or what `trickzoo eval --predictions` wrote. The difference of two classifiers in top-1
    has a 95 % confidence interval, and p is that of McNemar's exact test. The differences of two detectors in COCO's AP and AP50, and of
    two segmenters in mean IoU and pixel accuracy, have 95 % bootstrap intervals over the images. All of them are about these images: they
    do not cover the spread over seeds.

    To compare recipes over seeds, name the training runs of each with commas between them, or by a pattern in quotes:
    'runs/a-*' 'runs/b-*'. The runs are paired by seed; interval and p are those of the paired t test.
    """
    ones, twos = trainings(first), trainings(second)
    if len(ones) > 1 or len(twos) > 1:
        if out is not None or draws is not None:
            raise BadOption("--out and --draws are for two networks; name one training run on each side, or leave them out")
        _of_seeds(ones, twos, json)
        return
    (task, one), (other, two) = find(ones[0]), find(twos[0])
    result_files.check_outputs({"--out": out}, (one, two))
    if task != other:
        raise BadData(f"{first} is of {NETWORKS[task]} and {second} of {NETWORKS[other]}; compare two networks of one task")
    if task == "classification" and draws is not None:
        raise BadOption("--draws is for detectors and segmenters; the interval of classifiers has a formula")
    say_in, columns, cells, content = _of_classifiers(one, two) if task == "classification" else _of_annotated(task, one, two, draws)
    if out is not None:
        result_files.write_csv(out, columns, cells)
    if json:
        say_json({"what": "comparison", "task": task, "first": first, "second": second, **content})
    else:
        say_in(ones[0], twos[0])


def _of_seeds(ones: Sequence[Path], twos: Sequence[Path], json: bool) -> None:
    """Print the comparison of two recipes over seeds."""
    found = compare_seeds(ones, twos)
    if json:
        say_json({"what": "comparison over seeds", **msgspec.to_builtins(found, str_keys=True)})
        return
    for side, values in (("first", found.first), ("second", found.second)):
        each = ", ".join(f"{value:.2f}" for value in values.values())
        of_seeds = f"with the {'seed' if len(values) == 1 else 'seeds'} {', '.join(map(str, values))}"
        say(f"{side}: {MEASURES[found.measure]} {fmean(values.values()):.2f} % ({each} {of_seeds})")
    say(f"recipe: {in_words(found.changes) or 'the same'}")
    difference = found.difference
    verdict = {HELPED: ": the second is better", HURT: ": the first is better", UNCLEAR: f": {words.significance(difference)}"}
    say(f"difference {words.result_in_words(difference)}{verdict.get(difference.verdict, '')}")
    for note in found.notes:
        say(note)


def _of_classifiers(one: Path, two: Path) -> Compared:
    found = compare_classifiers(one, two)
    rows = [(change, each) for change, group in (("lost", found.lost), ("won", found.won)) for each in group]
    cells = [(change, each.image, each.label, each.first, each.second) for change, each in rows]
    return partial(_tell, found), ("change", "image", "class", "first", "second"), cells, asdict(found)


def _of_annotated(task: str, one: Path, two: Path, draws: int | None) -> Compared:
    from trickzoo.studies.annotated_comparison import (  # only now, because torch takes seconds to import
        compare_detectors,
        compare_segmenters,
    )

    found = (compare_detectors if task == "detection" else compare_segmenters)(one, two, draws or bootstrap.DRAWS)
    cells = [(each.image, *(f"{value:.4f}" for value in (each.first, each.second, each.difference))) for each in found.changed]
    return partial(_tell_annotated, found), ("image", "first", "second", "difference"), cells, asdict(found)


def _tell(found: Comparison, first: Path, second: Path) -> None:
    say(f"{first}: top-1 {found.top1[0]:.2f} % of {count(found.n, 'image')}")
    say(f"{second}: top-1 {found.top1[1]:.2f} %")
    significant = "significant" if found.p < 0.05 else "not significant"
    say(
        f"difference {words.points(found.difference)} points (95 % CI {words.span(found.interval)}), "
        f"McNemar's exact p {words.probability(found.p)}: "
        f"{significant} at 0.05"
    )
    for title, group in (("only the first is right", found.lost), ("only the second is right", found.won)):
        say("")
        say(f"{title}: {count(len(group), 'image')}")
        if group:
            _list(group)


def _list(group: tuple[Changed, ...]) -> None:
    rows = [(each.image, *map(describe_class, (each.label, each.first, each.second))) for each in group[:SHOWN]]
    table(("image", "class", "first", "second"), rows, left=("image", "class", "first", "second"))
    if len(group) > SHOWN:
        say(f"and {len(group) - SHOWN:,} more; --out writes all of them")


def _tell_annotated(found: AnnotatedComparison, first: Path, second: Path) -> None:
    say(f"first: {first}")
    say(f"second: {second}")
    say(f"{count(found.n, 'image')}; intervals from {found.draws:,} bootstrap draws of the images")
    for each in found.figures:
        if each.first is None or each.second is None or each.difference is None or each.interval is None:
            say(f"{each.name}: nothing can be judged")
            continue
        verdict = "0 is outside" if each.significant else "0 is inside"
        say(
            f"{each.name}: {each.first:.2f} % and {each.second:.2f} %, difference {words.points(each.difference)} points "
            f"(95 % CI {words.span(each.interval)}: {verdict})"
        )
    better = [each for each in found.changed if each.difference > 0]
    worse = [each for each in found.changed if each.difference < 0]
    for title, group in (("the first is better", worse), ("the second is better", better)):
        say("")
        say(f"{title} in {found.of_images}: {count(len(group), 'image')}")
        if group:
            rows = [(each.image, f"{each.first:.2f}", f"{each.second:.2f}", f"{each.difference:+.2f}") for each in group[:SHOWN]]
            table(("image", "first", "second", "difference"), rows, left=("image",))
        if len(group) > SHOWN:
            say(f"and {len(group) - SHOWN:,} more; --out writes all of them")
