"""The command `trickzoo tune`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from trickzoo.cli import options
from trickzoo.cli import running as cli
from trickzoo.cli.fields import ClassifierFields
from trickzoo.cli.options import Flag
from trickzoo.cli.printing import hush, say, say_json, table
from trickzoo.data.location import SHAPES, ImageLocation
from trickzoo.errors import BadOption
from trickzoo.files import read_json
from trickzoo.output_files import TUNE
from trickzoo.recipes.collection import check_networks, find, list_fields
from trickzoo.recipes.fields import check_effect, in_words
from trickzoo.recipes.recipe import Recipe
from trickzoo.recipes.zoo import FINE_TUNE
from trickzoo.studies import tune as study
from trickzoo.training.machine import Machine, default_out
from trickzoo.wording import count, separated


def tune(
    *,
    data: options.OwnImages,
    recipe: Annotated[str, Parameter(help="Name of a recipe, a recipe file, or the folder of a training run.")] = FINE_TUNE.name,
    rounds: Annotated[
        int | None,
        Parameter(help="Rounds of training runs, by default up to 3: each has half the settings of the one before and twice the epochs."),
    ] = None,
    minival: Annotated[float, Parameter(help="Fraction of the training images of each class on which settings are judged.")] = 0.2,
    out: Annotated[Path | None, Parameter(help="Folder of the search; by default runs/tune-MODEL-DATA-RECIPE-SEED.")] = None,
    seed: Annotated[int, Parameter(help="Random seed of all training runs.")] = 0,
    side: Annotated[int | None, Parameter(help="Side of the decoded images in pixels; by default size × 8 / 7.")] = None,
    cache: options.Cache = None,
    selecting: options.SelectionOptions = options.SelectionOptions(),
    running: options.StudyOptions = options.StudyOptions(),
    folder: options.TableFolder = None,
    dry_run: Annotated[bool, Flag, Parameter(help="Print how many training runs and epochs the search takes, and stop.")] = False,
    json: options.Json = False,
    fields: ClassifierFields = ClassifierFields(),
) -> None:
    """Find a learning rate and other fields for your images by successive halving, and print the command that trains with the best.

    --lr, --weight-decay and --epochs take several values: --lr 0.02,0.05,0.1. Without any, three learning rates are tried. Each
    combination is trained for a part of its epochs, and the better half goes on to the next round; the last round trains at full length.
    Settings are judged on images that are cut off from the training images; the validation images are not used. Images are decoded once.
    Run the same command again to resume a search that was stopped. OUT/report.html has the result.
    """
    options.check_printing(json=json, quiet=running.quiet)
    plan = study.plan(find(recipe), {name: _values(name, text) for name, text in fields.given.items()}, rounds=rounds, seed=seed)
    check_effect(fields.given, *plan.settings)
    if data in SHAPES:
        raise BadOption(f"{data} are generated; name a folder of images with --data")
    location = ImageLocation(
        data=data, decode="once", side=side, cache=cache, folder=folder, selection=selecting.selection, minival=minival
    )
    place = out or _default_out(plan.settings[0], data, seed)
    machine = Machine(out=place, seed=seed, **running.machine_settings)
    hush(running.quiet or json)
    if dry_run:
        location.check_divisible()
    _announce(plan, place)
    if dry_run:
        if json:
            say_json(_planned(plan))
        return
    check_networks(plan.settings[0])
    location.check_exists()
    from trickzoo.studies import tune_report

    shown = cli.Shown(chief=True)
    found = study.run(plan, location, machine, each=shown.each, tell=shown.tell, jobs=running.jobs)
    best = found[-1][0].setting
    chosen = {**fields.given, **{field: in_words(getattr(best, field)) for field in plan.fields}}
    command = _command(recipe, data, folder, side, cache, selecting, seed, chosen)
    written = tune_report.write(plan, found, place, command)
    if json:
        say_json(read_json(place / TUNE))
        return
    _tell(plan, found)
    for line in ("", *tune_report.findings(plan, found), "", str(written), "", command):
        say(line)


def _values(name: str, text: str) -> list[str]:
    """Return the values of an option that may have several. Texts, and lists such as those of --milestones, are one value."""
    parts = list(separated(text))
    return parts if name in study.FIELDS or (name not in list_fields(Recipe) and all(map(_is_number, parts))) else [text]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _default_out(recipe: Recipe, data: str, seed: int) -> Path:
    place = default_out(recipe, data, seed)
    return place.with_name(f"tune{place.name.removeprefix(recipe.task)}")


def _announce(plan: study.Plan, place: Path) -> None:
    """Print the settings, and the training runs and epochs of each round."""
    first = plan.settings[0]
    say(f"{first.model} by {first.name}: {count(len(plan.settings), 'setting')} in {count(plan.rounds, 'round')}, {place}")
    for setting in plan.settings:
        say(f"  {plan.name(setting)}")
    say("")
    columns = ("round", "settings", "epochs of each", "epochs in all")
    table(columns, [tuple(map(str, each.values())) for each in _planned(plan)["rounds"]])
    longest = max(setting.epochs for setting in plan.settings)
    total = sum(plan.epochs)
    whole = f"{total / longest:.1f} training runs of {count(longest, 'epoch')}"
    say(f"{count(plan.trainings, 'training run')} of {count(total, 'epoch')} in all, as long as {whole}")


def _planned(plan: study.Plan) -> dict[str, Any]:
    """Return the rounds of a search before it starts. The epochs are at most as many, if settings differ in them."""
    rounds = []
    for number, epochs in enumerate(plan.epochs):
        each = sorted({plan.recipe(setting, number).epochs for setting in plan.settings})
        shown = str(each[0]) if len(each) == 1 else f"{each[0]} to {each[-1]}"
        rounds.append({"round": number + 1, "settings": plan.survivors(number), "epochs of each": shown, "epochs in all": epochs})
    settings = [{field: getattr(setting, field) for field in plan.fields} for setting in plan.settings]
    return {"settings": settings, "rounds": rounds, "trainings": plan.trainings, "epochs": sum(plan.epochs)}


def _tell(plan: study.Plan, found: Sequence[Sequence[study.Outcome]]) -> None:
    """Print a table of all training runs."""
    from trickzoo.studies.tune_report import cells, titles

    say("")
    table(titles(plan), cells(plan, found), left=("",))


def _command(
    recipe: str,
    data: str,
    folder: Path | None,
    side: int | None,
    cache: Path | None,
    selecting: options.SelectionOptions,
    seed: int,
    fields: Mapping[str, str],
) -> str:
    """Return the command that trains with the best setting."""
    given = {"recipe": recipe, "data": data, "images": folder, **asdict(selecting), "decode": "once", "side": side, "cache": cache}
    given |= {"seed": seed or None, "split_seed": selecting.split_seed or None, **fields}
    if selecting.val_fraction is None:
        given["group_by"] = None  # it divided the minival alone
    words = ["trickzoo", "train"]
    for name, value in given.items():
        if value is not None and value is not False:
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return shlex.join(words)
