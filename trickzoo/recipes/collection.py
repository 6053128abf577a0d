"""Recipes by name, and recipes with some fields replaced from text."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec

from trickzoo import registry
from trickzoo.errors import BadCheckpoint, BadOption, NoWeights, UnknownName, printable
from trickzoo.files import read_json
from trickzoo.output_files import LAST, RESULT
from trickzoo.recipes import finetune, paper, scaled, zoo
from trickzoo.recipes.fields import described, in_words, suggestion
from trickzoo.recipes.finetune import DetectionRecipe, SegmentationRecipe
from trickzoo.recipes.recipe import Augmentation, Recipe
from trickzoo.tricks.linear_scaling import scaled_lr
from trickzoo.weights import manifest, named

AnyRecipe = Recipe | DetectionRecipe | SegmentationRecipe
R = TypeVar("R", bound=AnyRecipe)
D = TypeVar("D")

SUFFIXES = {".pt", ".pth", ".safetensors", ".json"}
"""Suffixes of files that a recipe can be read from."""
LONGEST = 100
"""Largest number of bytes of a recipe's name. Folders and files are named after it."""


def recipes() -> dict[str, Recipe]:
    """Return recipes of classifiers by name.

    These are the rungs of the paper's ladders and of the scaled ladders of the models in `scaled.EXAMPLES`, and all recipes in `zoo`.
    `find` also knows the scaled ladders of the other models.
    """
    ladders = [*paper.LADDERS, *(scaled.ladder(data, model) for data in scaled.SIZES for model in scaled.EXAMPLES)]
    return {r.name: r for r in (*(rung.recipe for ladder in ladders for rung in ladder.rungs), *zoo.RECIPES)}


def find(name: str) -> Recipe:
    """Return the recipe of this name, or the one in a checkpoint, weight file or JSON file, or in the folder of a training run.

    A recipe takes precedence over a folder of the same name; `./NAME` names the folder. The rungs of the scaled ladders exist for every
    model. Raises UnknownName with the nearest names, BadCheckpoint for a file or folder without a recipe, and BadOption for a recipe of
    another task.
    """
    if name in finetune.RECIPES:
        raise _of_another_task(name, type(finetune.RECIPES[name]), Recipe.task)
    known = recipes()
    data, _, rest = name.partition(".")
    model = rest.partition(".")[0]
    if data in scaled.SIZES and (model in registry.ARCHITECTURES or model in registry.ALIASES):
        rungs = scaled.ladder(data, registry.find(model).name).rungs
        known |= {rung.recipe.name: rung.recipe for rung in rungs}
    if name in known:
        return known[name]
    if (path := _place(name)) is not None:
        return stored(path)
    raise UnknownName("recipe", name, known)


def find_fine_tuning(name: str, kind: type[R]) -> R:
    """Return the recipe of a detector or a segmenter, by its name or from the same files and folders as `find`. Raises the same errors."""
    found = finetune.RECIPES.get(name) or recipes().get(name)
    if found is None and (path := _place(name)) is not None:
        return stored(path, kind)
    if found is None:
        raise UnknownName("recipe", name, [each.name for each in finetune.RECIPES.values() if isinstance(each, kind)])
    if not isinstance(found, kind):
        raise _of_another_task(name, type(found), kind.task)
    return found


def fine_tuning_task(name: str) -> str | None:
    """Return the task that a recipe of `find_fine_tuning` is for; None if its fields fit both tasks.

    Raises the errors of `find`, and BadOption for the recipe of a classifier.
    """
    found = finetune.RECIPES.get(name) or recipes().get(name)
    if found is not None:
        kinds: set[type[AnyRecipe]] = {type(found)}
    elif (path := _place(name)) is not None:
        content = _content(path)
        kinds = {kind_of(content, first) for first in finetune.RECIPE_CLASSES.values()}
    else:
        raise UnknownName("recipe", name, finetune.RECIPES)
    if kinds == {Recipe}:
        raise _of_another_task(name, Recipe, "detection or segmentation")
    return kinds.pop().task if len(kinds) == 1 else None


def _place(name: str) -> Path | None:
    """Return the file that the recipe is in, if `name` is that of a file, of a network or of the folder of a training run, else None."""
    path = Path(name)
    if named.network(name):
        return named.existing(name)
    if path.suffix in SUFFIXES:
        return path
    if not os.path.isdir(name):
        return None
    return next((path / file for file in (RESULT, LAST) if (path / file).exists()), path / RESULT)


def _of_another_task(name: str, its: type[AnyRecipe], wanted: str) -> BadOption:
    command = "`trickzoo train`" if its is Recipe else f"`trickzoo finetune … --task {its.task}`"
    return BadOption(f"the recipe {name} is for {its.task}, not for {wanted}; use it with {command}")


def stored(path: Path, kind: type[R] = Recipe) -> R:  # type: ignore[assignment]
    """Return the recipe in `last.pt` or `best.pt`, in the header of a .safetensors file that trickzoo trained, or in a .json file.

    Raises BadCheckpoint for a file without a recipe, BadOption for a recipe of another task, and what `from_dict` raises.
    """
    content = _content(path)
    its = kind_of(content, kind)
    if its is not kind:
        raise _of_another_task(str(path), its, kind.task)
    try:
        return _well_named(from_dict(content, kind))
    except BadOption as error:
        raise BadOption(f"{path}: {error}") from None


def _content(path: Path) -> dict[str, Any]:
    """Return the fields of the recipe in a file. Raises BadCheckpoint for a file without a recipe."""
    from trickzoo.weights import header, pickles

    content: Any
    if path.suffix == ".safetensors":
        own = header.of_file(path)
        content = own.training.get("recipe") if own is not None and own.training is not None else None
    elif not os.path.exists(path):  # also False for a name that is too long
        raise BadCheckpoint(f"{path} does not exist")
    elif path.suffix == ".json":
        content = _from_json(path)
        content = content.get("recipe", content) if isinstance(content, dict) else None
    else:
        content = pickles.read_pickle(path)
        content = content.get("recipe") if isinstance(content, dict) else None
    if not isinstance(content, dict):
        raise BadCheckpoint(f"{path} holds no recipe; name one that `trickzoo train` lists")
    return content


def _from_json(path: Path) -> Any:
    try:
        return read_json(path)
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be read ({error.strerror}); name a JSON file that holds a recipe") from None
    except ValueError as error:
        raise BadCheckpoint(f"{path} is not a JSON file ({error}); --print-recipe shows what one looks like") from None


def _well_named(recipe: R) -> R:
    """Return the recipe. Raises BadOption if no folder can be named after it, as the folder of a training run is by default."""
    name = recipe.name
    if not name or len(name.encode(errors="replace")) > LONGEST or name != printable(name) or name[0] in ".- " or set(name) & set("/\\"):
        shown = f"{name[:40]}…" if len(name) > LONGEST else name
        raise BadOption(
            f'a recipe cannot be called "{shown}", since a folder is named after it: use 1 to {LONGEST} bytes of printable text without '
            "slashes that does not begin with a dot, a dash or a space"
        )
    return recipe


def override(recipe: R, changes: Mapping[str, Any]) -> R:
    """Return a recipe with other values of some fields, as on the command line: {"epochs": "5", "milestones": "3,4", "teacher": "none"}.

    If the batch size changes and the learning rate does not, the learning rate is scaled in proportion. If the number of epochs changes and
    no milestone of a step schedule would be within the training, the milestones are scaled in proportion. If the recipe starts from the
    default weight of its model, and the model has one weight that is not a default, the recipe starts from that weight.
    Raises BadOption for an unknown field, with the nearest names, or for a value of another type.
    """
    content: dict[str, Any] = to_dict(recipe)
    holders = [content, *(value for value in content.values() if isinstance(value, dict))]
    lists = list_fields(type(recipe))
    for name, value in changes.items():
        text = value if isinstance(value, str) else in_words(value)
        field = name.replace("-", "_")
        holder = next((h for h in holders if field in h and not isinstance(h[field], dict)), None)
        if holder is None:
            raise BadOption(f'a recipe has no field "{name}"{suggestion(field, [n for h in holders for n in h])}')
        if text.lower() == "none":
            holder[field] = None
        else:
            holder[field] = [_number(part) for part in text.split(",") if part] if field in lists else _number(text)
    changed = from_dict(content, type(recipe))
    if changed.batch_size != recipe.batch_size and "lr" not in changes:
        changed = replace(changed, lr=scaled_lr(recipe.lr, changed.batch_size, per=recipe.batch_size))
    if changed.epochs < recipe.epochs and "milestones" not in changes and changed.schedule == "step" and _is_short(changed):
        scale = changed.epochs / recipe.epochs
        changed = replace(changed, milestones=tuple(scale * milestone for milestone in changed.milestones))
    return _well_named(_from_the_only_weight(changed))


def list_fields(kind: type[Any]) -> set[str]:
    """Return the names of the fields of a recipe's class, and of its augmentation, whose values are lists or pairs."""
    return {field.name for each in (kind, Augmentation) for field in fields(each) if "tuple" in str(field.type)}


def _from_the_only_weight(recipe: R) -> R:
    """Return the recipe with the tag of its model's only weight in place of "default", if the model has no default weight."""
    if getattr(recipe, recipe.starts_from) != "default":
        return recipe
    weights = manifest.of_model(registry.ALIASES.get(recipe.model, recipe.model))
    if len(weights) != 1 or weights[0].default:
        return recipe
    only: dict[str, Any] = {recipe.starts_from: weights[0].tag}
    return replace(recipe, **only)


def _is_short(recipe: AnyRecipe) -> bool:
    """Return whether the training ends before its first milestone."""
    return bool(recipe.milestones) and min(recipe.milestones) >= recipe.epochs


def check_networks(recipe: AnyRecipe) -> None:
    """Raise the errors of `named.resolve` for the model, the weights and the teacher that a recipe names. Importing torch is not needed."""
    start = getattr(recipe, recipe.starts_from)
    if start is None or start == "default":
        try:
            named.resolve(recipe.model, pretrained=start is not None)
        except NoWeights as error:
            raise NoWeights(f"{error}; --{recipe.starts_from} takes a tag, or none to train from scratch") from None
    else:
        named.resolve(recipe.model, weights=start)
    if isinstance(recipe, Recipe) and recipe.teacher is not None:
        named.check(recipe.teacher)


def _number(text: str) -> str:
    """Return a number such as ".1" in the form of JSON, the only one that msgspec reads."""
    return repr(float(text)) if re.fullmatch(r"[+-]?(\.\d+|\d+\.)(e[+-]?\d+)?", text, re.IGNORECASE) else text


def to_dict(recipe: AnyRecipe) -> dict[str, Any]:
    """Return a recipe as dictionaries, lists and scalars, as it is stored in checkpoints and weight files."""
    found: dict[str, Any] = msgspec.to_builtins(asdict(recipe))
    return found


def flattened(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a recipe as plain data, with those of its nested parts in their place."""
    parts = (value.items() if isinstance(value, Mapping) else ((name, value),) for name, value in content.items())
    return {name: value for part in parts for name, value in part}


def kind_of(content: Mapping[str, Any], first: type[Any] = Recipe) -> type[AnyRecipe]:
    """Return the kind of recipe that has most of the fields in `content`, and `first` if several kinds have equally many."""
    return min(
        (first, Recipe, *finetune.RECIPE_CLASSES.values()), key=lambda kind: len(content.keys() - {field.name for field in fields(kind)})
    )


def from_dict(content: dict[str, Any], kind: type[R] = Recipe) -> R:  # type: ignore[assignment]
    """Return the recipe of a dictionary that `to_dict` returned. Fields that older versions did not have get their defaults.

    Raises BadOption, with the name of the field, for a value of the wrong type, an unknown field, or a missing field without a default.
    """
    if not isinstance(content, dict):
        raise BadOption("a recipe is an object that names its fields")
    missing = [field.name for field in fields(kind) if field.default is MISSING and field.name not in content]
    if missing:
        raise BadOption(f"a recipe must state its {', '.join(missing)}")
    known = {path.rpartition(".")[2]: path for path in _paths(to_dict(kind("", "", "")))}
    for path in _paths(content):
        if path not in known.values():
            name = path.rpartition(".")[2]
            near = f"; did you mean {known[name]}?" if name in known else suggestion(name, known)
            raise BadOption(f'a recipe has no field "{path}"{near}')
    return _converted(content, kind)


def _converted(content: dict[str, Any], kind: type[D], inside: str = "") -> D:
    """Return a dataclass of the fields in `content`, which are converted one by one, so that an error names the field."""
    values = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if name in content:
            try:
                if isinstance(hint, type) and is_dataclass(hint) and isinstance(content[name], dict):
                    values[name] = _converted(content[name], hint, f"{inside}{name}.")
                else:
                    values[name] = msgspec.convert(content[name], hint, strict=False)
            except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON can contain as "\\ud800"
                raise BadOption(f'a recipe has the text "{error.object}", which is not Unicode; replace it') from None
            except msgspec.ValidationError as error:
                field = described(kind).get(name)  # type: ignore[arg-type]  # classes have a hash
                if field is None or "out of range" in str(error):
                    raise BadOption(f"recipe field {inside}{name}: {error}") from None
                whole = "a whole number, " if str(error).startswith("Expected `int") and field.choice[:1].isdigit() else ""
                raise BadOption(f'recipe field {inside}{name} must be {whole}{field.choice}, not "{in_words(content[name])}"') from None
    return kind(**values)


def _paths(content: Any, inside: str = "") -> Iterator[str]:
    """Yield the names of all fields. The name of a nested field includes that of the outer one: "augmentation.flip"."""
    for name, value in content.items() if isinstance(content, dict) else ():
        yield f"{inside}{name}"
        yield from _paths(value, f"{inside}{name}.")
