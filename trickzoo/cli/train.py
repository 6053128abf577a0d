"""`trickzoo-train`."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Annotated

from cyclopts import App, Parameter

from trickzoo.cli import options
from trickzoo.cli.fields import ClassifierFields
from trickzoo.cli.printing import hush, say, say_json, table
from trickzoo.data.layouts import FOLDERS_IN_WORDS, HUB_IN_WORDS
from trickzoo.data.location import SHAPES, ImageLocation
from trickzoo.errors import BadOption
from trickzoo.recipes import scaled
from trickzoo.recipes.collection import check_networks, find, override, recipes, to_dict
from trickzoo.recipes.fields import check_effect
from trickzoo.recipes.zoo import FINE_TUNE
from trickzoo.training.machine import Machine, default_out

app = App(name="trickzoo-train", **options.SETTINGS)
DEFAULT = FINE_TUNE.name
KINDS = {
    "own": "fine-tuning of a weight on your own images",
    "record": "a short training run on Imagenette-128 for a small machine",
    "zoo": "the training of this weight of the zoo",
    "paper": "a row of the paper's tables",
}
"""What the recipes are, by the beginning of their names."""


@app.default
def train(
    *,
    recipe: Annotated[
        str | None,
        Parameter(
            help="Name of a recipe, such as paper.resnet50_d.mixup, or a file or the folder of a training run that holds one; by default "
            f"{DEFAULT}. Without any option, all names are listed."
        ),
    ] = None,
    data: Annotated[
        str | None,
        Parameter(
            help=f"Class folders, in train/ and val/ or with --val-fraction, a CSV of path and label, {FOLDERS_IN_WORDS}, "
            f"{HUB_IN_WORDS}, or {' or '.join(SHAPES)} for generated images."
        ),
    ] = None,
    out: options.TrainingFolder = None,
    seed: Annotated[int, Parameter(help="Random seed of initialisation, order, crops, augmentation and mixup.")] = 0,
    decode: options.Decode = "always",
    side: Annotated[
        int | None, Parameter(help="With --decode once: side of the decoded images in pixels; by default size × 8 / 7.")
    ] = None,
    cache: options.Cache = None,
    selecting: options.SelectionOptions = options.SelectionOptions(),
    running: options.TrainingOptions = options.TrainingOptions(),
    images: Annotated[
        str | None,
        Parameter(
            help="With generated images: number of training images, 10,000 by default; a fifth as many are used for validation. With a "
            "CSV: the folder of its images, by default its own."
        ),
    ] = None,
    pictures: options.PicturesOfTraining = 6,
    print_recipe: options.PrintRecipe = False,
    dry_run: options.DryRun = False,
    fields: ClassifierFields = ClassifierFields(),
) -> None:
    """Train a classifier by a recipe. Run the same command again to resume a training run that was stopped.

    Every field of the recipe is also an option: --model resnet18_d --size 64 --epochs 20. If --batch-size differs from the recipe's, the
    learning rate is scaled in proportion unless --lr is given. Under `torchrun` or `accelerate launch` the processes share the batch.
    """
    given = (recipe, data, out, seed or None, side, cache, images, fields.given or None)
    groups = (options.SelectionOptions(), options.TrainingOptions())
    if given == (None,) * len(given) and (selecting, running) == groups and not print_recipe and not dry_run:
        _list_recipes()
        return
    chosen = override(find(recipe or DEFAULT), fields.given)
    check_effect(fields.given, chosen)
    if print_recipe:
        say_json(to_dict(chosen))
        return
    if data is None:
        raise BadOption("name the folder of images with --data")
    hush(running.quiet)
    if data in SHAPES:
        chosen = replace(chosen, data=data)
    place = out or default_out(chosen, data, seed)
    number, folder = options.number_or_folder(images, generated=data in SHAPES)
    location = ImageLocation(data=data, decode=decode, side=side, cache=cache, images=number, folder=folder, selection=selecting.selection)
    machine = Machine(out=place, seed=seed, **running.machine_settings)
    check_networks(chosen)
    location.check_exists()
    from trickzoo import tasks  # only now, because torch takes seconds to import
    from trickzoo.cli.running import run

    prepare = functools.partial(tasks.prepare, location=location, machine=machine)
    network = f"{chosen.model} ({chosen.pretrained or 'no weights'})"
    run(prepare, chosen, network, dry_run=dry_run, compare="precision" not in fields.given, pictures=pictures)


def _list_recipes() -> None:
    """Print the recipes, those for one's own images first. The small ladders exist for every model, and get one line each."""

    def kind(name: str) -> str:
        return name.partition(".")[0]

    named = sorted((name for name in recipes() if kind(name) in KINDS), key=lambda name: list(KINDS).index(kind(name)))
    rows = [(name, KINDS[kind(name)]) for name in named]
    rows += [(f"{data}.MODEL.RUNG", f"the paper's ladder on {side} × {side} pixels, for any model") for data, side in scaled.SIZES.items()]
    columns = ("recipe", "what it is")
    table(columns, rows, left=columns)
    rungs = (rung.recipe.name.rpartition(".")[2] for rung in scaled.ladder("shapes", "resnet50_d").rungs)
    say(f"RUNG: {', '.join(rungs)}; a model has those that apply to it")
