"""`trickzoo-finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

import trickzoo as package
from trickzoo.cli import options
from trickzoo.cli.printing import say, say_json
from trickzoo.errors import BadOption
from trickzoo.recipes.collection import find_fine_tuning, override, plain
from trickzoo.recipes.finetune import DetectionRecipe, SegmentationRecipe

app = App(name="trickzoo-finetune", help="Fine-tune a backbone as a detector or a segmenter.", version=package.__version__)

KINDS = {"detection": DetectionRecipe, "segmentation": SegmentationRecipe}


@app.default
def finetune(
    layout: Annotated[
        Literal["coco", "voc", "ade20k", "lists", "shapes"],
        Parameter(help="How the images are annotated; lists of images and masks as CamVid has them, shapes are generated."),
    ],
    /,
    *,
    task: Annotated[Literal["detection", "segmentation"] | None, Parameter(help="Needed for voc and shapes, which serve both.")] = None,
    data: Annotated[Path | None, Parameter(help="The folder of the set; not for shapes.")] = None,
    recipe: Annotated[
        str | None,
        Parameter(help="paper.TASK.LAYOUT, small.TASK, or a file that holds one; by default the paper's for coco, voc and ade20k."),
    ] = None,
    year: Annotated[str | None, Parameter(help="Of VOC (2007, 2012, 07+12) or COCO, where there are several.")] = None,
    val_year: Annotated[str | None, Parameter(help="Of the validation images, where it is another.")] = None,
    train: Annotated[str, Parameter(help="Split to train on.")] = "train",
    val: Annotated[str, Parameter(help="Split to validate on.")] = "val",
    out: Annotated[Path | None, Parameter(help="Folder of checkpoints, metrics and weights; by default runs/RECIPE-MODEL-SEED.")] = None,
    seed: Annotated[int, Parameter(help="Of the new layers, order, crops and flips.")] = 0,
    running: options.Watched = options.Watched(),
    images: Annotated[
        int | None, Parameter(help="With shapes: how many to train on, 1000 by default; a fifth as many are evaluated on.")
    ] = None,
    print_recipe: options.PrintRecipe = False,
    dry_run: options.DryRun = False,
    **fields: Annotated[str, Parameter(help="Fields of the recipe: --model resnet18_d --weights TAG --epochs 10 --short 320.")],
) -> None:
    """Fine-tune a backbone as a Faster R-CNN or an FCN. After a stop the same command goes on where it was.

    Every field of the recipe is an option too, above all --model, the backbone, and --weights: a tag, a file, a hub reference, or none.
    With another --batch-size the learning rate is scaled to it, unless --lr is given.
    Under `torchrun` or `accelerate launch` the processes share the batch.
    """
    from trickzoo.finetune import DEFAULTS, TASKS

    kind = task or (TASKS[layout][0] if len(TASKS[layout]) == 1 else None)
    if kind is None:
        raise BadOption(f"{layout} has annotations for both tasks; name one with --task detection or --task segmentation")
    found: DetectionRecipe | SegmentationRecipe = find_fine_tuning(recipe or DEFAULTS.get((layout, kind), f"small.{kind}"), KINDS[kind])
    chosen = override(found, {"data": layout, **fields})
    if print_recipe:
        say_json(plain(chosen))
        return
    if (data is None) != (layout == "shapes"):
        raise BadOption("shapes are generated; leave --data out" if data else "name the folder of images with --data")
    from trickzoo import finetune as run
    from trickzoo.cli.train import progress_bar, tell
    from trickzoo.training.job import Machine, rehearse
    from trickzoo.training.tracking import in_words

    place = out or Path("runs") / f"{chosen.name}-{chosen.model}-{seed}"
    settings = Machine(out=place, seed=seed, **running.of_machine)
    source = run.Source(layout, data or Path(), year, val_year, train, val, images)
    job = run.prepare(chosen, source, settings)
    chief = job.accelerator.is_main_process
    if chief:
        counts = f"{len(job.train):,} images of {len(job.train.classes)} classes"
        say(f"{chosen.name}: {chosen.model} ({chosen.weights or 'no weights'}), {counts}, seed {seed}, {place}")
        for note in job.notes:
            say(note)
        say(f"learning rate {chosen.lr:g} for a batch of {chosen.batch_size}")
    if dry_run:
        rehearsal = rehearse(job.task, settings, job.accelerator)
        if chief:
            tell(job.task, rehearsal)
    else:
        with progress_bar(chief) as report:
            result = run.run(job, report)
        if chief:
            say(f"{in_words(result)} of {result['n']:,} images; {place / 'model.safetensors'}")
    job.accelerator.end_training()
