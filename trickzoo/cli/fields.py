"""The fields of recipes as options: `--epochs 20 --jitter 0 --teacher none`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Group, Parameter

from trickzoo.recipes.fields import Field, described, in_words
from trickzoo.recipes.finetune import DetectionRecipe, SegmentationRecipe
from trickzoo.recipes.recipe import Recipe
from trickzoo.recipes.zoo import FINE_TUNE

GROUP = Group(
    "Fields of the recipe",
    help="Each replaces the value that the recipe states.",
    sort_key=100,
)


@dataclass(frozen=True, kw_only=True)
class Fields:
    """The fields of a recipe that the user gives."""

    @property
    def given(self) -> dict[str, str]:
        """The values as text, by the name of the field."""
        return {name: value for name, value in vars(self).items() if value is not None}


def _options(kinds: Sequence[Any], without: Sequence[str], default: Recipe | None = None) -> Any:
    """Return a subclass of `Fields` with an option for each field of these recipes, except those that a command has options for itself.

    `default` is the recipe that the command follows without `--recipe`, if it is always the same one.
    """
    stated = {} if default is None else {name: in_words(value) for name, value in (vars(default) | vars(default.augmentation)).items()}
    found: dict[str, list[tuple[type[Any], Field]]] = {}
    for kind in kinds:
        for name, field in described(kind).items():
            if name not in ("data", *without):
                found.setdefault(name, []).append((kind, field))
    columns = [(name, Annotated[str | None, _parameter(each, len(kinds), stated.get(name))], None) for name, each in found.items()]
    made = make_dataclass("RecipeFields", columns, bases=(Fields,), frozen=True, kw_only=True)
    made.__module__ = __name__  # cyclopts treats types of the standard library differently
    return Parameter(name="*")(made)


def _parameter(fields: Sequence[tuple[type[Any], Field]], of: int, stated: str | None) -> Parameter:
    """Return the option of a field that some of `of` kinds of recipes have.

    `stated` is its value in the default recipe of the command, if the command has one.
    """
    texts = {field.meaning: kind for kind, field in fields}
    if len(texts) == 1 and len(fields) == of:
        text = fields[0][1].meaning
    else:
        text = " ".join(f"For {kind.task}: {field.meaning[:1].lower()}{field.meaning[1:]}" for kind, field in fields)
    defaults = {field.default for _, field in fields}
    shown = f" [if the recipe states none: {' or '.join(sorted(defaults))}]" if all(defaults) else ""
    shown = shown if stated is None else f" [{FINE_TUNE.name}: {stated}]"
    values = {field.values: f"{field.values} for {kind.task}" for kind, field in fields}
    return Parameter(group=GROUP, help=f"{text} Values: {'; '.join(values if len(values) == 1 else values.values())}.{shown}")


SETS: dict[str, tuple[Any, ...]] = {
    "ClassifierFields": ((Recipe,), (), FINE_TUNE),
    "FineTuningFields": ((DetectionRecipe, SegmentationRecipe), ()),
    "LadderFields": ((Recipe,), ("name", "model", "teacher")),
    "TransferFields": ((DetectionRecipe, SegmentationRecipe), ("name", "model", "weights")),
}
"""The recipes of each set of options, the fields for which the command has options of its own, and its default recipe, if it has one."""

if TYPE_CHECKING:
    ClassifierFields: TypeAlias = Fields
    FineTuningFields: TypeAlias = Fields
    LadderFields: TypeAlias = Fields
    TransferFields: TypeAlias = Fields
else:

    @functools.cache
    def __getattr__(name: str) -> type[Fields]:
        """Return a set of options by its name. Sets are made when they are asked for, because this takes a while."""
        if name not in SETS:
            raise AttributeError(name)
        return _options(*SETS[name])
