"""A training run on a machine: its settings, its run, its result file, and a rehearsal of a few steps."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from trickzoo import environment, files, result_files
from trickzoo.data.location import Splits
from trickzoo.errors import BadCheckpoint, BadOption, TrickzooError
from trickzoo.output_files import BEST, BOXES, CURVES, LAST, LOG, NETWORK, PREDICTIONS, REPORT, RESULT, SPLIT
from trickzoo.recipes.collection import to_dict
from trickzoo.training import checkpoint, folder, loop, metrics_log, schedule, stopping, trackers
from trickzoo.training.machine import Machine
from trickzoo.training.processes import peak_memory
from trickzoo.training.progress import Outcome, Progress
from trickzoo.training.task import Task

KEPT = ("recipe", "seed", "data", "data_digest", "split", "commit", "versions")
"""Fields of the result that the header of the weight file stores, so that the training can be repeated."""
LATER = (NETWORK, LOG, CURVES, REPORT, PREDICTIONS, BOXES)
"""Files that a training run writes only after `last.pt`. Without that checkpoint, those in its folder are not its own."""


@dataclass(frozen=True)
class Job:
    """A training that is ready to run: its task, its settings, its device and processes, and the images that its task was built from."""

    task: Task
    machine: Machine
    accelerator: Accelerator
    images: Splits[Any]


def run(job: Job, report: Callable[[Progress], None] = lambda progress: None, **also: Any) -> dict[str, Any]:
    """Train, write `model.safetensors`, `log.csv`, `curves.png` and `result.json` into the job's folder, and return the result.

    If the folder holds this training run finished, its result is returned and nothing is written.

    Args:
        job: the training.
        report: called after each step and each evaluation.
        also: additional fields of the result.

    Raises BadCheckpoint if the folder holds another training, BadOption if it holds other files that the training would replace, InUse if
    another run is writing to it, and what `loop.fit` raises.
    """
    task, machine, accelerator = job.task, job.machine, job.accelerator
    if done := finished(machine, task):  # before the folder is locked, because it may be read-only
        return done
    with folder.locked(machine.out, accelerator):
        return finished(machine, task) or _run(job, report, also)


def evaluate_again(job: Job) -> None:
    """Load the last checkpoint of a finished training run, and evaluate its network. All processes call it together."""
    with folder.locked(job.machine.out, job.accelerator):
        _fit(job, lambda progress: None)


def _run(job: Job, report: Callable[[Progress], None], also: dict[str, Any]) -> dict[str, Any]:
    task, machine = job.task, job.machine
    _begin(job)
    with _reporting(job, report) as record:
        outcome = _fit(job, record)
    found = _evidence(job, outcome, also)
    if job.accelerator.is_main_process:
        _write_split(job)  # again, because the file may have been removed since a training run that is resumed wrote it
        task.save(machine.out / NETWORK, {key: found[key] for key in KEPT if key in found})
        metrics_log.write_log(machine.out)
        metrics_log.plot_curves(machine.out, f"{task.recipe.name}, seed {machine.seed}", task.measure)
        result_files.write_json(machine.out / RESULT, found)  # written last: a folder with this file holds a finished training run
    return found


def _fit(job: Job, report: Callable[[Progress], None]) -> Outcome:
    """Take the steps that are left, and the last evaluation if this process has not done it."""
    task, machine = job.task, job.machine
    outcome = loop.fit(
        task,
        machine.out,
        seed=machine.seed,
        accelerator=job.accelerator,
        save_every=machine.save_every,
        evaluate_every=machine.evaluate_every,
        report=report,
    )
    task.finish()
    if task.last_evaluation is None:  # another process did it, and was stopped after it
        task.evaluate()
    return outcome


def _begin(job: Job) -> None:
    """Write the list of the images of a new training run, if it divided them. All processes call it together.

    Raises BadOption if the folder holds another list, or other files of these names, which the training would replace.
    """
    out, selected = job.machine.out, job.task.selected
    error: TrickzooError | None = None
    # a checkpoint may belong to another training run, and `fit` then raises an error
    if job.accelerator.is_main_process and not (out / LAST).exists():
        replaced = [out / name for name in LATER if (out / name).exists()] + ([] if _is_own_best(job) else [out / BEST])
        if selected.rows and (path := out / SPLIT).exists() and files.read_regular(path) != selected.table:
            replaced.append(path)
        try:
            if replaced:
                raise BadOption(f"{replaced[0]} is not of this training run, which would replace it; name another --out, or move it away")
            _write_split(job)
        except TrickzooError as found:
            error = found
    stopping.raise_in_all(error, job.accelerator)


def _is_own_best(job: Job) -> bool:
    """Return whether `best.pt` is of this training run, which may have been killed before its first `last.pt`, or does not exist."""
    path = job.machine.out / BEST
    try:
        return not path.exists() or bool(checkpoint.load(path, job.task.recipe, seed=job.machine.seed, **job.task.identity))
    except BadCheckpoint:
        return False


def _write_split(job: Job) -> None:
    """Write the list of training and validation images, if the training divided them."""
    if job.task.selected.rows and job.accelerator.is_main_process:
        files.write_atomically(job.machine.out / SPLIT, job.task.selected.table, remedy="make room, or name another --out")


def holds_finished(out: Path) -> bool:
    """Return whether a folder holds a finished training run, of whatever recipe."""
    return (out / RESULT).exists() and (out / NETWORK).exists()


def finished(machine: Machine, task: Task) -> dict[str, Any] | None:
    """Return the result of this training run if its folder holds it finished, otherwise None.

    Raises BadCheckpoint if the folder holds the result of another training run, even if its network was removed.
    """
    path = machine.out / RESULT
    if not path.exists():
        return None
    found = checkpoint.result(path, task.recipe, seed=machine.seed, **task.identity)
    return found if holds_finished(machine.out) else None


@contextmanager
def _reporting(job: Job, report: Callable[[Progress], None]) -> Iterator[Callable[[Progress], None]]:
    """Yield a function that passes progress to `report`, to TensorBoard and to a tracker, as far as the settings say so."""
    machine, accelerator = job.machine, job.accelerator
    with ExitStack() as stack:
        writers = [report]
        if (machine.tensorboard or machine.tracker == "tensorboard") and accelerator.is_main_process:
            writers.append(stack.enter_context(trackers.tensorboard(machine.out / "tensorboard")))
        if machine.external is not None:
            config = {**to_dict(job.task.recipe), "seed": machine.seed}
            writers.append(stack.enter_context(trackers.tracked(accelerator, machine.external, machine.out, config)))

        def record(progress: Progress) -> None:
            for write in writers:
                write(progress)

        yield record


def _evidence(job: Job, outcome: Outcome, also: dict[str, Any]) -> dict[str, Any]:
    """Return the content of the result file: the metrics of the training, and everything that they depend on."""
    task = job.task
    notes = schedule.notes(task.recipe, task.shares.per_epoch)
    metrics = {key: round(value, 4) if isinstance(value, float) else value for key, value in outcome.evaluation.items()}
    return {
        "what": f"{task.activity} by {task.recipe.name}",
        **metrics,
        **task.identity,
        **task.facts(),
        **task.selected.facts,
        **also,
        **({"schedule_notes": notes} if notes else {}),
        "recipe": to_dict(task.recipe),
        "seed": job.machine.seed,
        "processes": job.accelerator.num_processes,
        "micro_batch": task.shares.micro,
        "wall_seconds": round(outcome.seconds, 1),
        **environment.describe(),
        **({"commit": outcome.commits[-1]} if outcome.commits else {}),
        **({"commits": list(outcome.commits)} if len(outcome.commits) > 1 else {}),
    }


@dataclass(frozen=True)
class Rehearsal:
    """Measurements of a few steps of a training run: the seconds of one step, and the peak memory in bytes if it is known."""

    seconds_per_step: float
    memory: int | None


def rehearse(job: Job) -> Rehearsal:
    """Take up to three steps in a temporary folder, and return their duration and memory. The output folder is not touched.

    The first step, which takes longer, counts only if it is the only one of an epoch.
    """
    task, accelerator = job.task, job.accelerator
    times: list[float] = [time.perf_counter()]
    with tempfile.TemporaryDirectory() as place:
        loop.fit(
            task,
            Path(place),
            seed=job.machine.seed,
            accelerator=accelerator,
            stop_after=min(3, task.shares.per_epoch),
            report=lambda _: times.append(time.perf_counter()),
        )
    on_gpu = accelerator.device.type == "cuda"
    memory = torch.cuda.max_memory_allocated() if on_gpu else peak_memory()
    steps = times[1:] if len(times) > 2 else times
    return Rehearsal((steps[-1] - steps[0]) / (len(steps) - 1), memory)
