"""A series of trainings that can be stopped and resumed without losing any of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trickzoo.training.job import Machine
    from trickzoo.training.progress import Progress

Each = Callable[[str], "AbstractContextManager[Callable[[Progress], None]]"]
"""Called with a training's title. Returns the context manager in which it runs, whose value is called with the progress."""


@dataclass(frozen=True)
class Training:
    """One training of a series: `train` starts or resumes it, and returns its result in a few words."""

    title: str
    done: bool
    train: Callable[[Callable[[Progress], None]], str]


def train_all(trainings: Sequence[Training], machine: Machine, *, each: Each, tell: Callable[[str], None]) -> None:
    """Run the trainings that are not done; `tell` is called with a line of text for each.

    The folder `machine.out` is locked meanwhile, unless all trainings are done: it is then only read.

    Raises InUse if another run is writing to it, and Stopped if SIGTERM, SIGINT or SIGHUP arrived. The same call resumes the series.
    """
    from accelerate import PartialState
    from accelerate.utils import gather_object

    from trickzoo.training import stopping
    from trickzoo.training.folder import held
    from trickzoo.training.processes import processes

    total = len(trainings)
    finished = all(training.done for training in trainings)
    with nullcontext() if finished else held(machine.out, processes(use_cpu=machine.use_cpu)):
        for number, training in enumerate(trainings, 1):
            title = f"{number}/{total} {training.title}"
            if training.done:
                tell(f"{title}: already finished")
                continue
            with stopping.handle_signals() as asked, each(title) as report:
                found = training.train(report)
            tell(f"{title}: {found}")
            if any(gather_object([asked()])) and number < total:  # the signal may have reached only one process
                stopped = stopping.Stopped(f"stopped after {number} of {total} trainings; the same command resumes it")
                raise stopping.for_this_process(stopped, PartialState())
