"""Step decay of the learning rate: the baseline's schedule (section 2.1), divided by 10 at epochs 30, 60 and 90 of 120."""

from __future__ import annotations

from collections.abc import Sequence


def step_factor(epoch: float, milestones: Sequence[float], *, decay: float = 0.1) -> float:
    """Return the factor of the learning rate at an epoch: `decay` to the power of the number of milestones at or before it.

    Epochs count from 0 and may be fractions.
    """
    return decay ** sum(epoch >= milestone for milestone in milestones)
