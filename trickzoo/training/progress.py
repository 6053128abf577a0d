"""What a training tells of itself: while it runs, and at its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Progress:
    """What the loop tells while it runs. `loss` is the step's, the mean over processes; with an evaluation it is the epoch's mean."""

    step: int
    steps: int
    epoch: int
    loss: float
    lr: float
    evaluation: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a training gave: its last evaluation, and the seconds that all its parts took together.

    `commits` are those of the checkouts that it ran under, in order: more than one if the code changed between a stop and the next start.
    """

    evaluation: dict[str, Any]
    seconds: float
    commits: tuple[str, ...] = ()
