"""A series of training runs that can be stopped and resumed without losing any of them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trickzoo import files
from trickzoo.errors import BadOption, UnknownName
from trickzoo.output_files import LAST, NETWORK, RESULT
from trickzoo.studies.power import MOST_SEEDS

if TYPE_CHECKING:
    from trickzoo.data.location import Splits
    from trickzoo.recipes.collection import AnyRecipe
    from trickzoo.studies.parallel import Reopen, Train
    from trickzoo.training.machine import Machine
    from trickzoo.training.progress import Progress

Each = Callable[[str], "AbstractContextManager[Callable[[Progress], None]]"]
"""Called with a training run's title. Returns the context manager in which it runs, whose value is called with the progress."""


State = Literal["done", "begun", "to do"]


def state(place: Path) -> State:
    """Return the state of the training in a folder, from the names of its files."""
    return "done" if (place / RESULT).exists() else "begun" if (place / LAST).exists() else "to do"


def seeds_from(first: int, n: int) -> tuple[int, ...]:
    """Return `first`, `first` + 1 and so on, n seeds. Raises BadOption unless n is from 1 to `MOST_SEEDS`, and the first 0 or more."""
    if not 1 <= n <= MOST_SEEDS:
        raise BadOption(f"--seeds must be from 1 to {MOST_SEEDS:,}, not {n}")
    if first < 0:
        raise BadOption(f"--first-seed must be 0 or more, not {first}")
    return tuple(range(first, first + n))


def check_rungs(wanted: Sequence[str], known: Sequence[str]) -> None:
    """Raise UnknownName for a rung that a ladder does not have, and BadOption for one that is named twice."""
    for number, name in enumerate(wanted):
        if name not in known:
            raise UnknownName("rung", name, known)
        if name in wanted[:number]:
            raise BadOption(f"--rungs names {name} twice; name each rung once")


def holds_finished(place: Path, recipe: AnyRecipe, seed: int, images: Splits[Any]) -> bool:
    """Return whether a folder holds a training run that is finished. Raises BadCheckpoint if it holds another one, finished or not."""
    from trickzoo.studies.results import ClassifierResult, FineTuningResult, read
    from trickzoo.training import checkpoint

    if is_of(path := place / RESULT, recipe, seed, images):
        read(path, ClassifierResult if recipe.task == "classification" else FineTuningResult)
        return True
    if (place / LAST).exists():
        checkpoint.load(place / LAST, recipe, seed=seed, **_identity(recipe, images))
    return False


def is_of(path: Path, recipe: AnyRecipe, seed: int, images: Splits[Any]) -> bool:
    """Return whether a file with the outcome of a training run exists. Raises BadCheckpoint if it is of another training run."""
    from trickzoo.training import checkpoint

    if path.exists():
        checkpoint.result(path, recipe, seed=seed, **_identity(recipe, images))
        return True
    return False


def _identity(recipe: AnyRecipe, images: Splits[Any]) -> dict[str, str]:
    return {"data_digest": images.train.digest, "val_digest": images.val.digest, **_digests(recipe)}


def _digests(recipe: AnyRecipe) -> dict[str, str]:
    """Return the SHA-256 of each weight file that a recipe names by its path or by the folder of its training."""
    from trickzoo.weights.named import existing, is_file, network

    named = {"weights_sha256": getattr(recipe, recipe.starts_from), "teacher_sha256": getattr(recipe, "teacher", None)}
    given = {name: path for name, path in named.items() if path is not None and is_file(path)}
    paths = {name: existing(path) if network(path) else files.expanded(path) for name, path in given.items()}
    paths = {name: path / NETWORK if path.is_dir() else path for name, path in paths.items()}
    return {name: _digest(path, path.stat().st_mtime_ns, path.stat().st_size) for name, path in paths.items() if path.is_file()}


@functools.lru_cache
def _digest(path: Path, changed: int, size: int) -> str:
    """Return the SHA-256 of a file, which is computed again only if the file has changed: all training runs of a study ask for it."""
    return files.digest(path)


@contextmanager
def each_message_once() -> Iterator[None]:
    """Within the block, a message that several training runs log is passed on once."""
    seen: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        known = len(seen)
        seen.add(record.getMessage())
        return len(seen) > known

    log = logging.getLogger("trickzoo")
    log.addFilter(is_new)
    try:
        yield
    finally:
        log.removeFilter(is_new)


@dataclass(frozen=True)
class Training:
    """One training of a series: `train` starts or resumes it, and returns its result in a few words."""

    title: str
    done: bool
    train: Train


def check_jobs(jobs: int, machine: Machine) -> Machine:
    """Return the settings of each training run if several run at once: they share the worker processes.

    Raises BadOption unless `jobs` is 1 or more, and 1 if `torchrun` or `accelerate launch` started this process.
    """
    from trickzoo.training.processes import processes

    if jobs < 1:
        raise BadOption(f"--jobs must be 1 or more, not {jobs}")
    if jobs > 1 and processes(device=machine.device).num_processes > 1:
        raise BadOption("--jobs starts processes of its own; leave it out, or start the study without torchrun or accelerate launch")
    return machine if machine.workers is not None else replace(machine, workers=-(-machine.decoders // jobs))


def train_all(
    trainings: Sequence[Training], machine: Machine, *, each: Each, tell: Callable[[str], None], jobs: int, reopen: Reopen
) -> None:
    """Run the training runs that are not done; `tell` is called with a line of text for each.

    With several `jobs`, other processes run them, as `train_in_parallel` describes, and `each` is not called.

    The folder `machine.out` is locked meanwhile, unless all training runs are done: it is then only read.

    Raises BadOption if it is the folder of a training run, InUse if another run is writing to it, and Stopped if SIGTERM, SIGINT or SIGHUP
    arrived. The same call resumes the series.
    """
    from trickzoo.training.folder import locked
    from trickzoo.training.processes import processes

    titles = [f"{number}/{len(trainings)} {training.title}" for number, training in enumerate(trainings, 1)]
    left = [index for index, training in enumerate(trainings) if not training.done]
    if left and state(machine.out) != "to do":
        raise BadOption(f"{machine.out} holds a training run itself, whose report would be replaced; name another --out")
    with locked(machine.out, processes(device=machine.device)) if left else nullcontext():
        if jobs == 1:
            _train_in_turn(trainings, titles, each, tell)
            return
        from trickzoo.studies.parallel import train_in_parallel

        for title, training in zip(titles, trainings, strict=True):
            if training.done:
                tell(f"{title}: already finished")
        train_in_parallel(titles, left, reopen, jobs, tell)


def _train_in_turn(trainings: Sequence[Training], titles: Sequence[str], each: Each, tell: Callable[[str], None]) -> None:
    from accelerate import PartialState
    from accelerate.utils import gather_object

    from trickzoo.training import stopping

    total = len(trainings)
    for number, (title, training) in enumerate(zip(titles, trainings, strict=True), 1):
        if training.done:
            tell(f"{title}: already finished")
            continue
        with stopping.handle_signals() as asked, each(title) as report:
            found = training.train(report)
        tell(f"{title}: {found}")
        if any(gather_object([asked()])) and number < total:  # the signal may have reached only one process
            stopped = stopping.Stopped(f"stopped after {number} of {total} training runs; the same command resumes it")
            raise stopping.for_this_process(stopped, PartialState())
