"""Reports of a training run: its progress while it runs, and its outcome at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Progress:
    """Progress of a training run, which the loop reports after each step and after each evaluation.

    Attributes:
        step: number of optimiser steps taken so far.
        steps: number of optimiser steps of the whole training.
        epoch: 0-based epoch.
        epochs: number of epochs of the whole training.
        loss: after a step, the mean loss of that step over all processes; after an evaluation, the mean loss of the epoch.
        lr: learning rate of the last step.
        evaluation: metrics of the evaluation in percent; empty after a step.
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    loss: float
    lr: float
    evaluation: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """Outcome of a training run.

    Attributes:
        evaluation: metrics of the last evaluation, in percent.
        seconds: total duration, including the runs before the training was resumed.
        commits: commits of the code that the training ran with, in order; more than one if the code changed between its runs.
    """

    evaluation: dict[str, Any]
    seconds: float
    commits: tuple[str, ...] = ()
