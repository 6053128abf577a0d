"""`trickzoo-train`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

import trickzoo as package
from trickzoo.cli import options, printing
from trickzoo.cli.printing import say, say_json
from trickzoo.errors import BadOption
from trickzoo.recipes.collection import find, override, plain, recipes

if TYPE_CHECKING:
    from trickzoo.training.job import Rehearsal
    from trickzoo.training.loop import Progress, Task

app = App(name="trickzoo-train", help="Train a backbone by a recipe.", version=package.__version__)


@app.default
def train(
    *,
    recipe: Annotated[
        str | None,
        Parameter(help="Name of a recipe, such as paper.resnet50_d.mixup, or a file that holds one; without it, they are listed."),
    ] = None,
    data: Annotated[
        str | None,
        Parameter(help="Class folders or tar shards in train/ and val/, CIFAR-10, Places365, hf:OWNER/NAME, or shapes: generated ones."),
    ] = None,
    out: Annotated[Path | None, Parameter(help="Folder of checkpoints, metrics and weights; by default runs/RECIPE-SEED.")] = None,
    seed: Annotated[int, Parameter(help="Of initialisation, order, crops, augmentation and mixup.")] = 0,
    decode: options.Decode = "always",
    side: Annotated[int | None, Parameter(help="With --decode once: side of the kept images; by default size × 8 / 7.")] = None,
    cache: options.Cache = None,
    running: options.Watched = options.Watched(),
    images: Annotated[
        int | None, Parameter(help="With --data shapes: how many to train on, 10,000 by default; a fifth as many are evaluated on.")
    ] = None,
    print_recipe: options.PrintRecipe = False,
    dry_run: options.DryRun = False,
    **fields: Annotated[str, Parameter(help="Fields of the recipe: --epochs 20 --jitter 0 --teacher none.")],
) -> None:
    """Train a backbone by a recipe. After a stop the same command goes on where it was.

    Every field of the recipe is an option too: --model resnet18_d --size 64 --epochs 20. With another --batch-size the learning rate is
    scaled to it, unless --lr is given. Under `torchrun` or `accelerate launch` the processes share the batch.
    """
    if recipe is None:
        for name in recipes():
            say(name)
        return
    chosen = override(find(recipe), fields)
    if print_recipe:
        say_json(plain(chosen))
        return
    if data is None:
        raise BadOption("name the folder of images with --data")
    from trickzoo.classification import run
    from trickzoo.training.job import rehearse

    place = out or Path("runs") / f"{chosen.name}-{seed}"
    settings = run.Settings(data=data, out=place, seed=seed, decode=decode, side=side, cache=cache, images=images, **running.of_machine)
    job = run.prepare(chosen, settings)
    chief = job.accelerator.is_main_process
    if chief:
        say(f"{chosen.name}: {chosen.model}, {len(job.train):,} images of {len(job.train.classes)} classes, seed {seed}, {place}")
        if job.description:
            say(job.description)
        say(f"learning rate {chosen.lr:g} for a batch of {chosen.batch_size}")
    if dry_run:
        rehearsal = rehearse(job.task, settings, job.accelerator)
        if chief:
            tell(job.task, rehearsal)
    else:
        with progress_bar(chief) as report:
            found = run.run(job, report)
        if chief:
            say(f"top-1 {found['top1']:.2f} %, top-5 {found['top5']:.2f} % of {found['n']:,} images; {place / 'model.safetensors'}")
    job.accelerator.end_training()


@contextlib.contextmanager
def progress_bar(chief: bool, title: str = "", *, evaluations: bool = True) -> Iterator[Callable[[Progress], None]]:
    """A progress bar on a terminal, and a line for each evaluation."""
    from trickzoo.training.tracking import in_words

    def tell(p: Progress) -> None:
        if p.evaluation and chief and evaluations:
            say(f"epoch {p.epoch + 1}: loss {p.loss:.4f}, {in_words(p.evaluation)}", flush=True)

    with printing.progress(chief, title, None, elapsed=True, keep=evaluations) as move:

        def report(p: Progress) -> None:
            move(completed=p.step, total=p.steps, description=f"{title}epoch {p.epoch + 1}, loss {p.loss:.3f}, lr {p.lr:.4f}")
            tell(p)

        yield report


def tell(task: Task, rehearsal: Rehearsal) -> None:
    """What a training will take, and its learning rate over the epochs."""
    recipe, per_epoch = task.recipe, task.shares.per_epoch
    seconds = rehearsal.seconds_per_step
    hours = seconds * per_epoch * recipe.epochs / 3600
    say(f"{per_epoch:,} steps an epoch, {per_epoch * recipe.epochs:,} in all, {seconds:.2f} s each: about {hours:.1f} hours of training")
    say(f"peak memory {rehearsal.memory / 2**30:.1f} GiB")
    say("epoch  learning rate")
    for epoch in sorted({0, recipe.epochs - 1, *(i * recipe.epochs // 12 for i in range(12))}):
        lr = task.learning_rate(epoch * per_epoch)
        say(f"{epoch:5}  {lr:<9.4g} {'█' * round(40 * lr / recipe.lr)}")
