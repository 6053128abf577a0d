"""The pages of the commands and of the fields of the recipes, from the program itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from cyclopts import App

from trickzoo.cli import zoo
from trickzoo.cli.fields import GROUP
from trickzoo.recipes.fields import Field, described
from trickzoo.recipes.finetune import DetectionRecipe, SegmentationRecipe
from trickzoo.recipes.recipe import Recipe

COMMANDS = """# Commands

This page lists every command and its options, as `trickzoo COMMAND --help` prints them, and the
[environment variables](#environment-variables). `docs/generate.py` generates it.

The programs `trickzoo-train`, `trickzoo-finetune` and `trickzoo-eval` are the commands `train`, `finetune` and `eval`, and
`python -m trickzoo` is `trickzoo`. `source <(trickzoo completion bash)` completes commands and options in bash;
`trickzoo completion zsh` and `fish` print the scripts of other shells.

| command | |
| --- | --- |
"""
ENVIRONMENT = """
## Environment variables

| variable | |
| --- | --- |
| `TRICKZOO_HOME` | folder of downloaded files, decoded images and the lock file; by default `trickzoo` in `XDG_CACHE_HOME` or `~/.cache` |
| `TRICKZOO_MANIFEST` | further files of records of weights; see [your own manifest](weights.md#your-own-manifest) |
| `TRICKZOO_LOCK` | the lock file of `trickzoo weights lock`; by default `weights.lock.json` in `TRICKZOO_HOME` |
| `TRICKZOO_COMMIT` | the commit that result files state if the code is not in a git checkout |
| `HF_HOME`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE`, `HF_ENDPOINT`, `HF_TOKEN` | settings of the client of the Hugging Face Hub |
"""
LAYOUTS = "LAYOUT is one of {}, as [`trickzoo finetune`](#trickzoo-finetune) describes them."
FIELDS = """# Fields of recipes

This page lists the fields of a recipe, which holds all settings of a training run, with their defaults. Each field is an option of the
commands that train: `--warmup-epochs 2` sets `warmup_epochs`. A pair or a list has commas: `--milestones 10,20`. "Default" holds for
recipes that do not state the field; `--print-recipe` prints the values that a training run would use. `docs/generate.py` generates the
page from the dataclasses of the recipes.
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
    """Return the page of all commands with their options. Commands that differ in the layout of the images only share a section."""
    overview, sections = [], []
    for (above, doc), alike in groupby(commands(zoo), key=lambda found: (found[0][:-1], inspect.getdoc(found[1].default_command) or "")):
        each = {names[-1]: command for names, command in alike}
        several = len(each) > 1
        words = " ".join(("trickzoo", *above, "LAYOUT" if several else next(iter(each))))
        about = doc.partition("\n")[0] if several else next(iter(each.values())).help
        overview.append(f"| [`{words}`](#{words.replace(' ', '-').lower()}) | {about} |")
        sections += [f"\n## {words}\n", f"{doc.strip()}\n"]
        sections += [f"{LAYOUTS.format(', '.join(f'`{name}`' for name in each))}\n"] if several else []
        sections += _options(each)
    return COMMANDS + "\n".join([*overview, *sections]) + "\n" + ENVIRONMENT


def commands(app: App, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], App]]:
    """Yield each command with its words, in the order in which they are registered."""
    for name, command in app.resolved_commands().items():
        if name.startswith("-"):
            continue
        if command.default_command is None:
            yield from commands(command, (*before, name))
        else:
            yield (*before, name), command


def _options(each: dict[str, App]) -> Iterator[str]:
    """Yield the rows of the table of options. An option that only some of several commands have names these."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    of_recipe = 0
    for name, command in each.items():
        found = [argument for argument in command.assemble_argument_collection() if argument.show and argument.names]
        of_recipe = sum(argument.parameter.group == (GROUP,) for argument in found)
        for argument in (argument for argument in found if argument.parameter.group != (GROUP,)):
            names = ", ".join(f"`{name}`" for name in argument.names)
            rows.setdefault((names, _default(argument), _cell(argument.parameter.help or "")), []).append(name)
    if rows:
        yield "| option | default | meaning |"
        yield "| --- | --- | --- |"
    for (names, default, meaning), having in rows.items():
        others = [name for name in each if name not in having]
        word, listed = ("Only", having) if len(having) <= len(others) else ("Not", others)
        limit = f" {word} for {', '.join(f'`{name}`' for name in listed)}." if others else ""
        yield f"| {names} | {default} | {meaning}{limit} |"
    if of_recipe:
        yield f"\n{of_recipe} [fields of the recipe](recipe_fields.md) are options too."


def _default(argument: Any) -> str:
    if argument.required:
        return "required"
    default = argument.field_info.default
    hidden = default is argument.field_info.empty or default is None or default is False or default == ()
    return "" if hidden else f"`{default}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
