"""`trickzoo-finetune`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from trickzoo.cli import options
from trickzoo.cli.fields import FineTuningFields
from trickzoo.cli.printing import hush, say_json
from trickzoo.data.layouts import LAYOUTS, find_layout
from trickzoo.data.location import AnnotatedLocation
from trickzoo.errors import BadOption, NoEffect
from trickzoo.recipes.collection import check_networks, find_fine_tuning, fine_tuning_task, override, to_dict
from trickzoo.recipes.fields import check_effect
from trickzoo.training.machine import Machine, default_out

app = App(name="trickzoo-finetune", **options.SETTINGS)


@app.default
def finetune(
    layout: Annotated[
        str,
        Parameter(
            help="Layout of the images and their annotations. "
            + "; ".join(f"{name}: {layout.what}" for name, layout in LAYOUTS.items())
            + "."
        ),
    ],
    /,
    *,
    task: Annotated[
        Literal["detection", "segmentation"] | None, Parameter(help="Required if the layout has annotations for both tasks.")
    ] = None,
    data: Annotated[Path | None, Parameter(help="Folder of the data set; not for shapes.")] = None,
    annotations: options.Annotations = None,
    val_annotations: Annotated[Path | None, Parameter(help="With --annotations: the file of the validation images.")] = None,
    val_images: Annotated[Path | None, Parameter(help="With --val-annotations: the folder of its images, by default --images.")] = None,
    recipe: Annotated[
        str | None,
        Parameter(help="paper.TASK.LAYOUT, small.TASK, a recipe file, or the folder of a training run; by default the layout's."),
    ] = None,
    year: options.Year = None,
    val_year: options.ValYear = None,
    train: Annotated[str, Parameter(help="Split to train on.")] = "train",
    val: Annotated[str, Parameter(help="Split to validate on.")] = "val",
    out: options.TrainingFolder = None,
    seed: Annotated[int, Parameter(help="Random seed of new layers, order, crops and flips.")] = 0,
    selecting: options.SelectionOptions = options.SelectionOptions(),
    running: options.TrainingOptions = options.TrainingOptions(),
    images: Annotated[
        str | None,
        Parameter(
            help="With shapes: number of training images, 1,000 by default; a fifth as many are used for validation. With --annotations: "
            "the folder of the images, by default that of the file."
        ),
    ] = None,
    pictures: options.PicturesOfTraining = 6,
    print_recipe: options.PrintRecipe = False,
    dry_run: options.DryRun = False,
    fields: FineTuningFields = FineTuningFields(),
) -> None:
    """Fine-tune a backbone as a Faster R-CNN or an FCN. Run the same command again to resume a training run that was stopped.

    Every field of the recipe is also an option. The most important are --model, the backbone, and --weights: a tag, a file,
    hf-hub:OWNER/NAME, the folder of a training run of the same task to train its network further, or none. If --batch-size differs from the
    recipe's, the learning rate is scaled in proportion unless --lr is given.
    Under `torchrun` or `accelerate launch` the processes share the batch.
    """
    from trickzoo.recipes.finetune import RECIPE_CLASSES

    kind, default = _task_of(layout, task, recipe)
    chosen = override(find_fine_tuning(recipe or default, RECIPE_CLASSES[kind]), {"data": layout, **fields.given})
    check_effect(fields.given, chosen)
    if print_recipe:
        say_json(to_dict(chosen))
        return
    source = data or annotations
    if data is not None and annotations is not None:
        raise BadOption("--data and --annotations both name the data set; choose one of them")
    if annotations is not None and (train, val) != ("train", "val"):
        raise NoEffect("--train or --val", "--annotations and --val-annotations name the files of the splits")
    generated = find_layout(layout).generated
    if (source is None) != generated:
        raise BadOption(f"{layout} are generated; leave --data out" if source else "name the folder of images with --data")
    number, folder = options.number_or_folder(images, generated=generated)
    hush(running.quiet)
    place = out or default_out(chosen, source or layout, seed)
    location = AnnotatedLocation(
        layout,
        root=data or Path(),
        year=year,
        val_year=val_year,
        train=train,
        val=val,
        images=number,
        annotations=annotations,
        val_annotations=val_annotations,
        folder=folder,
        val_folder=val_images,
        selection=selecting.selection,
    )
    machine = Machine(out=place, seed=seed, **running.machine_settings)
    location.check_exists(chosen.task)
    check_networks(chosen)
    from trickzoo import tasks  # only now, because torch takes seconds to import
    from trickzoo.cli.running import run

    prepare = functools.partial(tasks.prepare, location=location, machine=machine)
    run(
        prepare,
        chosen,
        f"{chosen.model} ({chosen.weights or 'no weights'})",
        dry_run=dry_run,
        compare="precision" not in fields.given,
        pictures=pictures,
    )


def _task_of(layout: str, task: str | None, recipe: str | None) -> tuple[str, str]:
    """Return the task, and the recipe that is used if the user names none.

    A layout that serves both tasks needs `task` or `recipe`. Raises UnknownName for a layout that does not exist, BadOption if both are
    missing, and what `fine_tuning_task` raises.
    """
    readers = find_layout(layout).readers
    if task is None and recipe is not None and len(readers) > 1:
        task = fine_tuning_task(recipe)
    if task is None and len(readers) > 1:
        raise BadOption(f"{layout} can hold boxes, masks or both; name the task with --task {' or --task '.join(readers)}")
    chosen = task or next(iter(readers))
    return chosen, readers[chosen].recipe if chosen in readers else f"small.{chosen}"
