"""Many trainings in a row, of which a stop loses none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trickzoo.training.progress import Progress

Each = Callable[[str], "AbstractContextManager[Callable[[Progress], None]]"]
"""Gives for a training's title the block that it runs in, with the function that is told of its progress."""


@dataclass(frozen=True)
class Training:
    """One of them: `train` does it, or goes on with it, and returns what it found in a few words."""

    title: str
    done: bool
    train: Callable[[Callable[[Progress], None]], str]


def train_all(trainings: Sequence[Training], *, each: Each, tell: Callable[[str], None]) -> None:
    """Do what is left. `tell` is called with a line for each. Raises Stopped if SIGTERM or SIGINT came; the same call goes on."""
    from accelerate import PartialState
    from accelerate.utils import gather_object

    from trickzoo.training import stopping

    total = len(trainings)
    for number, training in enumerate(trainings, 1):
        title = f"{number}/{total} {training.title}"
        if training.done:
            tell(f"{title}: there already")
            continue
        with stopping.signals() as asked, each(title) as report:
            found = training.train(report)
        tell(f"{title}: {found}")
        if any(gather_object([asked()])) and number < total:  # the signal may have reached one process alone
            stopped = stopping.Stopped(f"stopped after {number} of {total} trainings; the same command goes on")
            raise stopping.everywhere(stopped, PartialState())
