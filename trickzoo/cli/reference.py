"""The commands and the fields of the recipes as pages of the documentation, from the program itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from cyclopts import App

from trickzoo.cli import zoo
from trickzoo.cli.fields import GROUP
from trickzoo.recipes.fields import Field, described
from trickzoo.recipes.finetune import DetectionRecipe, SegmentationRecipe
from trickzoo.recipes.recipe import Recipe

COMMANDS = """# Commands

Generated from the commands by `docs/generate.py`. `trickzoo COMMAND --help` prints the same. `python -m trickzoo` is `trickzoo`, and the
programs `trickzoo-train`, `trickzoo-finetune` and `trickzoo-eval` are the commands `train`, `finetune` and `eval`.
`source <(trickzoo completion bash)` completes commands and options in bash; `trickzoo completion zsh` and `fish` print the scripts of other
shells.
"""
FIELDS = """# Fields of recipes

Generated from the recipes' dataclasses by `docs/generate.py`. Each field is an option of the commands that train: `--warmup-epochs 2` sets
`warmup_epochs`. A pair or a list has commas: `--milestones 10,20`. "Default" holds for recipes that do not state the field;
`--print-recipe` prints the values that a training would use.
"""
RECIPES = {
    "Classifiers": (Recipe, "`trickzoo train` and `trickzoo tune`; for the baseline of a ladder also `trickzoo ladder`."),
    "Detectors": (DetectionRecipe, "`trickzoo finetune LAYOUT --task detection` and `trickzoo transfer --detection`."),
    "Segmenters": (SegmentationRecipe, "`trickzoo finetune LAYOUT --task segmentation` and `trickzoo transfer --segmentation`."),
}


def fields_page() -> str:
    """Return the page of the fields of all recipes."""
    parts = [FIELDS]
    for title, (kind, commands) in RECIPES.items():
        parts += [f"\n## {title}\n", f"{commands}\n", "| field | default | values | meaning |", "| --- | --- | --- | --- |"]
        parts += [_field(field) for field in described(kind).values()]
    return "\n".join(parts) + "\n"


def _field(field: Field) -> str:
    default = f"`{field.default}`" if field.default else "required"
    return f"| `{field.name}` | {default} | {_cell(field.values)} | {_cell(field.meaning)} |"


def commands_page() -> str:
    """Return the page of all commands with their options."""
    parts = [COMMANDS]
    for names, command in commands(zoo):
        words = " ".join(("trickzoo", *names))
        doc = inspect.getdoc(command.default_command) or ""
        parts += [f"\n## {words}\n", f"{doc.strip()}\n", *_options(command)]
    return "\n".join(parts) + "\n"


def commands(app: App, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], App]]:
    """Yield each command with its words, in the order in which they are registered."""
    for name, command in app.resolved_commands().items():
        if name.startswith("-"):
            continue
        if command.default_command is None:
            yield from commands(command, (*before, name))
        else:
            yield (*before, name), command


def _options(command: App) -> Iterator[str]:
    """Yield the rows of the table of a command's options."""
    found = [argument for argument in command.assemble_argument_collection() if argument.show and argument.names]
    of_recipe = [argument for argument in found if argument.parameter.group == (GROUP,)]
    others = [argument for argument in found if argument not in of_recipe]
    if others:
        yield "| option | default | meaning |"
        yield "| --- | --- | --- |"
        for argument in others:
            names = ", ".join(f"`{name}`" for name in argument.names)
            yield f"| {names} | {_default(argument)} | {_cell(argument.parameter.help or '')} |"
    if of_recipe:
        yield f"\n{len(of_recipe)} [fields of the recipe](recipe_fields.md) are options too."


def _default(argument: Any) -> str:
    if argument.required:
        return "required"
    default = argument.field_info.default
    hidden = default is argument.field_info.empty or default is None or default is False or default == ()
    return "" if hidden else f"`{default}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
