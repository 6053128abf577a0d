"""Comparison of two recipes by the training runs of each with several seeds."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trickzoo.data.identity import same_set
from trickzoo.errors import BadData
from trickzoo.output_files import RESULT
from trickzoo.recipes.collection import flattened, kind_of, to_dict
from trickzoo.studies.results import AnyResult, environments, notes, read
from trickzoo.studies.samples import Difference, difference
from trickzoo.studies.words import environments_in_words
from trickzoo.training.measures import MEASURES

STARTS = {
    "weights_sha256": ("the weights that they start from", {"model", "pretrained", "weights"}),
    "teacher_sha256": ("their teacher", {"teacher"}),
}
"""Digests of files that a training run depends on: what the file holds, and the fields of recipes that name it."""


@dataclass(frozen=True)
class SeedComparison:
    """The result of comparing two recipes.

    Attributes:
        measure: key of the metric in result files.
        first, second: the metric of each recipe by seed, in percent.
        changes: (value of the first, value of the second) for each field of the recipe that differs.
        difference: the metric of the second minus that of the first, paired by seed.
        notes: sentences on what else differs between the training runs.
    """

    measure: str
    first: Mapping[int, float]
    second: Mapping[int, float]
    changes: dict[str, tuple[Any, Any]]
    difference: Difference
    notes: tuple[str, ...]


def trainings(named: str) -> list[Path]:
    """Return the folders or files that an argument names: one, several with commas between them, or those that match a pattern.

    Raises BadData for a pattern that nothing matches.
    """
    if Path(named).exists():
        return [Path(named)]
    found: list[Path] = []
    for part in filter(None, named.split(",")):
        matched = sorted(glob.glob(part)) if glob.has_magic(part) and not Path(part).exists() else [part]
        if not matched:
            raise BadData(f"nothing matches {part}; name folders of training runs")
        found += map(Path, matched)
    return found or [Path(named)]


def compare(first: Sequence[Path], second: Sequence[Path]) -> SeedComparison:
    """Compare the training runs in two lists of folders, those of one recipe in each.

    Raises BadCheckpoint if a result cannot be read, and BadData if the training runs in a list differ in more than their seeds, if the
    validation images or the metrics differ, or if no seed is in both lists.
    """
    one, two = _of_one_recipe(first), _of_one_recipe(second)
    a, b = next(iter(one.values())), next(iter(two.values()))
    if a.measure != b.measure:
        raise BadData(f"{first[0]} is judged by {MEASURES[a.measure]} and {second[0]} by {MEASURES[b.measure]}; compare runs of one task")
    if not same_set(a.val_digest, b.val_digest):
        raise BadData(f"{first[0]} and {second[0]} have different validation images; compare runs with the same")
    ours, theirs = ({seed: result.figure for seed, result in each.items()} for each in (one, two))
    found = difference(theirs, ours)
    if found is None:
        raise BadData(f"no seed is on both sides ({_listed(one)}, and {_listed(two)}); train both recipes with the same seeds")
    results, changes = [*one.values(), *two.values()], _changes(a.recipe, b.recipe)
    paired = ", ".join(map(str, found.seeds))
    said = [
        *[f"The difference is over the seeds that both have: {paired}."] * (one.keys() != two.keys()),
        *notes(results),
        *["The training images of the two differ."] * (not same_set(a.data_digest, b.data_digest)),
        *(
            f"The two differ in {what}: the file of this name has changed."
            for digest, (what, fields) in STARTS.items()
            if _is_another_file(getattr(a, digest), getattr(b, digest)) and not fields & changes.keys()
        ),
        *environments_in_words(environments(results)),
    ]
    return SeedComparison(a.measure, ours, theirs, changes, found, tuple(said))


def _of_one_recipe(folders: Sequence[Path]) -> dict[int, AnyResult]:
    """Return the results of training runs by seed. Raises BadData if they differ in more than their seeds, or not in these."""
    found: dict[int, AnyResult] = {}
    places: dict[int, Path] = {}
    for folder in folders:
        if not (folder / RESULT).exists():
            raise BadData(f"{folder} holds no {RESULT} of a finished training run; finish it, or leave it out")
        result = read(folder / RESULT, AnyResult)
        if result.seed in found:
            raise BadData(f"{places[result.seed]} and {folder} have the same seed, {result.seed}; name each seed once")
        if found:
            base, at = next(iter(found.values())), next(iter(places.values()))
            other = [f"{name}: {there} and {here}" for name, (there, here) in _changes(base.recipe, result.recipe).items()]
            other += [what for what in ("data_digest", "val_digest") if not same_set(getattr(base, what), getattr(result, what))]
            other += [what for what in STARTS if getattr(base, what) != getattr(result, what)]
            if other:
                raise BadData(
                    f"{at} and {folder} differ in more than their seeds ({', '.join(other)}); name runs of one recipe on each side"
                )
        found[result.seed], places[result.seed] = result, folder
    return found


def _is_another_file(one: str | None, other: str | None) -> bool:
    """Return whether two digests are of different files. A file of an older version may lack one, which is then not compared."""
    return one is not None and other is not None and one != other


def _changes(there: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the two values of each field, other than the name, that differs between two recipes as plain data."""
    a, b = _fields(there), _fields(here)
    return {name: (a.get(name), b.get(name)) for name in a | b if a.get(name) != b.get(name) and name != "name"}


def _fields(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a recipe, with those of its nested parts. Fields that an older version did not write have their defaults."""
    stated = flattened(recipe)
    return stated | flattened(to_dict(kind_of(recipe)("", "", ""))) | stated


def _listed(results: Mapping[int, AnyResult]) -> str:
    return ", ".join(map(str, results))
