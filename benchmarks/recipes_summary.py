"""The summary of the trainings by published recipes, which `benchmarks/recipes.py` runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from trickzoo.data.identity import same_set
from trickzoo.errors import BadCheckpoint, BadData
from trickzoo.studies.records import RungName, Share, Study, StudyRung, corrected
from trickzoo.studies.results import ClassifierResult, environments
from trickzoo.studies.samples import HELPED, HURT, UNCLEAR, Count, difference, percentage
from trickzoo.studies.words import name, steps_in_words
from trickzoo.wording import count

TITLES = {
    "zoo": "trickzoo's recipe",
    "paper": "all tricks of the paper",
    "torchvision_v2": "torchvision's V2 recipe",
    "timm_a3": "timm's A3 recipe",
}
"""The recipes, by the names of their files. The others are compared with the first."""
GRID = "grid"
"""Name of the folder of the short trainings from which the rates were chosen."""
OUTCOMES = {
    HELPED: ("recipe is significantly better than trickzoo's", "recipes are significantly better than trickzoo's"),
    HURT: ("recipe is significantly worse than trickzoo's", "recipes are significantly worse than trickzoo's"),
    UNCLEAR: ("recipe does not differ significantly from trickzoo's", "recipes do not differ significantly from trickzoo's"),
}


class Rate(Struct, frozen=True, kw_only=True):
    """A learning rate that was tried for a recipe, with the top-1 accuracy on the held-out training images in percent."""

    recipe: RungName
    lr: float
    epochs: Count
    n: Count
    top1: Share


class RecipesStudy(Study, frozen=True, kw_only=True):
    """The comparison of recipes. Accuracies are top-1 in percent.

    Attributes:
        epochs: number of epochs of each training.
        recipes: the settings of each recipe, by its name in `TITLES`.
        rates: the learning rates that were tried.
        rungs: the recipes; the difference of each is that to the first.
    """

    what: str = "comparison of recipes"
    n_train: Count
    n_val: Count
    majority: Share | None
    epochs: Count
    data_digest: str
    val_digest: str
    recipes: dict[str, dict[str, Any]]
    rates: tuple[Rate, ...]
    rungs: tuple[StudyRung, ...]


def read_study(path: Path) -> RecipesStudy:
    """Return the comparison in a file that `summarise` made."""
    return msgspec.json.decode(path.read_bytes(), type=RecipesStudy)


def summarise(out: Path, seeds: int) -> RecipesStudy:
    """Return the comparison of the finished trainings in a folder: RECIPE-SEED.json, and grid/RECIPE-FACTOR.json.

    Raises BadData if no training is finished or if they used different images, and BadCheckpoint for a damaged file.
    """
    results = {title: {seed: _read(path) for seed in range(seeds) if (path := out / f"{title}-{seed}.json").exists()} for title in TITLES}
    found = [each for by_seed in results.values() for each in by_seed.values()]
    if not found:
        raise BadData(f"{out} holds no finished training of a recipe")
    if not all(same_set(each.data_digest, found[0].data_digest) for each in found):
        raise BadData(f"{out} holds trainings of different images")
    first = {seed: each.top1 for seed, each in results["zoo"].items()}
    rungs = [
        StudyRung(
            rung=title,
            title=TITLES[title],
            skipped=(),
            seeds=tuple(by_seed),
            top1=percentage(each.top1 for each in by_seed.values()),
            difference=None if title == "zoo" else difference({seed: each.top1 for seed, each in by_seed.items()}, first),
            wall_seconds=tuple(each.wall_seconds for each in by_seed.values()),
        )
        for title, by_seed in results.items()
        if by_seed
    ]
    study = RecipesStudy(
        title=f"{found[0].recipe['model']} on imagenette128",
        data="imagenette128",
        model=found[0].recipe["model"],
        seeds=tuple(range(seeds)),
        finished=len(found),
        planned=len(TITLES) * seeds,
        wall_seconds=round(sum(each.wall_seconds for each in found), 1),
        commands=tuple(dict.fromkeys(each.command for each in found)),
        environments=environments(found),
        n_train=found[0].n_train,
        n_val=found[0].n,
        majority=found[0].majority,
        epochs=found[0].recipe["epochs"],
        data_digest=found[0].data_digest,
        val_digest=found[0].val_digest,
        recipes={title: next(iter(by_seed.values())).recipe for title, by_seed in results.items() if by_seed},
        rates=tuple(sorted(_rates(out / GRID), key=lambda each: (each.recipe, each.lr))),
        rungs=corrected(rungs),
    )
    return msgspec.structs.replace(study, findings=tuple(findings(study)))


def _read(path: Path) -> ClassifierResult:
    try:
        content = json.loads(path.read_bytes())
        return msgspec.convert({**content, "recipe": content["settings"]}, ClassifierResult)
    except (ValueError, KeyError, TypeError) as error:
        raise BadCheckpoint(f"{path} is not the result of a training by a recipe ({error}); move it away") from None


def _rates(folder: Path) -> Iterator[Rate]:
    for path in folder.glob("*.json"):
        found = _read(path)
        recipe = found.recipe
        yield Rate(recipe=recipe["name"].rpartition(".")[2], lr=recipe["lr"], epochs=recipe["epochs"], n=found.n, top1=found.top1)


def findings(study: RecipesStudy) -> Iterator[str]:
    """Yield the findings as sentences: the highest mean, the differences to trickzoo's recipe, and the scope."""
    means = {name(rung): rung.top1.mean for rung in study.rungs if rung.top1}
    best = max(means, key=lambda each: means[each])
    own = TITLES["zoo"]
    yield f"The highest mean top-1 accuracy is that of {best}, {means[best]:.2f} %" + (
        f"; {own} reaches {means[own]:.2f} %." if best != own and own in means else "."
    )
    yield from steps_in_words(study.rungs, OUTCOMES, name)
    if study.finished < study.planned:
        yield f"{study.finished} of the {study.planned} training runs are finished; the column n counts those of each recipe."
    yield (
        f"Accuracy is measured on {study.n_val:,} validation images after {count(study.epochs, 'epoch')} with {study.n_train:,} "
        "training images. The intervals cover the variation between seeds; other images, longer training and other models may give "
        "different results."
    )
