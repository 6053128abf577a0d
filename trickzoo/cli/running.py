"""Running a training run or a study from the command line: the lines printed before, during and after it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trickzoo.cli import printing
from trickzoo.cli.printing import say
from trickzoo.errors import BadOption, shortened
from trickzoo.output_files import LAST, NETWORK, REPORT, RESULT
from trickzoo.result_files import check_folder
from trickzoo.studies.series import each_message_once
from trickzoo.wording import count, duration

if TYPE_CHECKING:
    from trickzoo.recipes.collection import AnyRecipe
    from trickzoo.training.device import Device
    from trickzoo.training.job import Job, Rehearsal
    from trickzoo.training.progress import Progress
    from trickzoo.training.task import Task
    from trickzoo.tricks.low_precision import Precision

log = logging.getLogger("trickzoo")

WORTHWHILE = 1.1
"""How many times as fast another precision must be to be suggested. Smaller differences can be noise of a few steps."""


@each_message_once()
def run(prepare: Callable[..., Job], recipe: AnyRecipe, network: str, *, dry_run: bool, compare: bool, pictures: int) -> None:
    """Print what is trained, then train it or only rehearse it.

    Args:
        prepare: `tasks.prepare` with the location of the images and the machine.
        recipe: the recipe.
        network: the network's name for the user.
        dry_run: whether to take a few steps only, and to print the time and memory that the training needs.
        compare: whether a rehearsal also tries another precision.
        pictures: up to how many pictures of each kind of validation image the report has.
    """
    from trickzoo.training import job as jobs
    from trickzoo.training import report, schedule
    from trickzoo.training.measures import in_words
    from trickzoo.tricks.low_precision import emulates_bf16

    job = prepare(recipe)
    machine, chief = job.machine, job.accelerator.is_main_process
    if chief:
        say(f"{recipe.name}: {network}, {job.task.data_in_words}, seed {machine.seed}, {machine.out}")
        for note in (*job.task.selected.notes, *job.task.notes, *schedule.notes(recipe, job.task.shares.per_epoch)):
            say(note)
        falls = [f"{milestone:g}" for milestone in recipe.milestones if milestone < recipe.epochs] if recipe.schedule == "step" else []
        falling = f", divided by 10 at epoch{'s' * (len(falls) > 1)} {', '.join(falls)}" if falls else ""
        say(f"learning rate {recipe.lr:g} for a batch of {recipe.batch_size}{falling}")
    if dry_run:
        rehearsal = jobs.rehearse(job)
        if chief:
            print_rehearsal(job.task, rehearsal)
        if compare:
            # which one is faster depends on the machine and the network
            other: Precision = "bf16" if recipe.precision == "fp32" else "fp32"
            if not (other == "bf16" and job.accelerator.device.type == "cpu" and emulates_bf16()):
                compare_precisions(rehearsal, prepare(replace(recipe, precision=other), data=job.images))
    else:
        with progress_bar(chief) as tell_progress:
            found = jobs.run(job, tell_progress)
        was_finished = job.task.last_evaluation is None
        if was_finished and (machine.out / LAST).exists() and not (machine.out / REPORT).exists():  # it was stopped before its report
            jobs.evaluate_again(job)
        if chief:
            say(f"{in_words(found)} of {count(found['n'], 'image')}; the weights are in {machine.out / NETWORK}")
            if was_finished:
                say(f"{machine.out} holds this training run already, so nothing was trained; --seed or --out starts another")
            if job.task.last_evaluation is not None:
                say(str(report.write(job, found, pictures)))
    job.accelerator.end_training()


@contextlib.contextmanager
def progress_bar(chief: bool, title: str = "", *, evaluations: bool = True) -> Iterator[Callable[[Progress], None]]:
    """Show a progress bar on a terminal, and print a line for each evaluation and one for a training run that is resumed."""
    from trickzoo.training.measures import in_words

    begun = False

    def tell(p: Progress) -> None:
        nonlocal begun
        if not begun and p.step > 1 and chief:
            say(f"{title}resumed in epoch {p.epoch + 1} of {p.epochs}, from the checkpoint in its folder", flush=True)
        begun = True
        if p.evaluation and chief and evaluations:
            say(f"epoch {p.epoch + 1} of {p.epochs}: loss {p.loss:.4f}, {in_words(p.evaluation)}", flush=True)

    with printing.progress(chief, title, None, elapsed=True, keep=evaluations) as move:

        def report(p: Progress) -> None:
            move(completed=p.step, total=p.steps, description=f"{title}epoch {p.epoch + 1} of {p.epochs}, loss {p.loss:.3f}, lr {p.lr:.4f}")
            tell(p)

        yield report


@dataclass(frozen=True)
class Shown:
    """The lines and progress bars of a study. Only the main process (`chief`) shows them."""

    chief: bool

    def tell(self, line: str) -> None:
        """Print a line."""
        if self.chief:
            say(line, flush=True)

    def each(self, title: str) -> AbstractContextManager[Callable[[Progress], None]]:
        """Show the progress bar of a training run."""
        return progress_bar(self.chief, f"{title}: ", evaluations=False)


@contextlib.contextmanager
def study(device: Device) -> Iterator[Shown]:
    """Run a study in the block, possibly in several processes, which end their communication after it."""
    from trickzoo.training.processes import processes  # only now, because torch takes seconds to import

    state = processes(device=device)
    yield Shown(state.is_main_process)
    if state.num_processes > 1:
        state.destroy_process_group()


def print_rehearsal(task: Task, rehearsal: Rehearsal) -> None:
    """Print the time and memory that a training run needs, and its learning rate over the epochs."""
    recipe, per_epoch = task.recipe, task.shares.per_epoch
    seconds = rehearsal.seconds_per_step
    steps = per_epoch * recipe.epochs
    say(f"{count(per_epoch, 'step')} an epoch, {steps:,} in all, {seconds:.2f} s each: about {duration(seconds * steps)} of training")
    if rehearsal.memory is not None:
        say(f"peak memory {rehearsal.memory / 2**30:.1f} GiB")
    say("epoch  learning rate")
    for epoch in sorted({0, recipe.epochs - 1, *(i * recipe.epochs // 12 for i in range(12))}):
        lr = task.learning_rate(epoch * per_epoch)
        say(f"{epoch:5}  {lr:<9.4g} {'█' * round(40 * lr / recipe.lr)}")


def compare_precisions(rehearsal: Rehearsal, other: Job) -> None:
    """Rehearse the same training in another precision, and print whether it is faster on this machine."""
    from trickzoo.training import job as jobs

    precision, seconds = other.task.recipe.precision, jobs.rehearse(other).seconds_per_step
    times = rehearsal.seconds_per_step / seconds
    advice = f", {times:.1f} × as fast; choose it with --precision {precision}" if times >= WORTHWHILE else ""
    if other.accelerator.is_main_process:
        say(f"in {precision} a step takes {seconds:.2f} s{advice}")


def warn_of_others(out: Path, trainings: Iterable[Path], without: str, also: str = "") -> None:
    """Warn which finished training runs in the folder `out` are not among the `trainings` that the command names.

    The message says that `without`, "plan" or "report", does not include them. `also` is the end of its remedy.
    """
    named = set(trainings)
    finished = (path.parent for above in {place.parent for place in named} for path in above.glob(f"*-*/{RESULT}"))
    if left_out := sorted(str(place.relative_to(out)) for place in finished if place not in named):
        log.warning(
            f"{out}: the {without} is without {count(len(left_out), 'finished training run')} of rungs or seeds that the command does not "
            f"name ({shortened(left_out)}); to include them, name all with --rungs and --seeds{also}"
        )


def report(findings: Sequence[str], out: Path, write: Callable[[], Path], *, required: bool, trainings: Iterable[Path]) -> None:
    """Print a study's findings, then write its report into the folder `out` and print the path that `write` returns.

    `trainings` are the folders of the trainings that the command names. A warning says which other finished ones the report leaves out.
    If the folder cannot be written, a line says that the report was not renewed. Raises BadOption instead if the report is `required`.
    """
    warn_of_others(out, trainings, "report", ", and add --report-only")
    for line in ("", *findings, ""):
        say(line)
    try:
        check_folder(out)
    except BadOption:
        if required:
            raise
        say(f"{out} cannot be written, so its report was not renewed")
        return
    say(str(write()))
