"""Cosine decay of the learning rate (section 5.1, after Loshchilov and Hutter, arXiv 1608.03983)."""

from __future__ import annotations

import math
from typing import Literal, get_args

from trickzoo.errors import BadOption, check_choice
from trickzoo.wording import count

Form = Literal["paper", "official"]


def cosine_factor(step: int, steps: int, *, form: Form = "paper") -> float:
    """Return the factor of the learning rate at a step, counted from 0: (1 + cos(π t)) / 2.

    `step` and `steps` do not count the warm-up. "paper": t = step / steps, so the factor would reach 0 one step after the last.
    "official": t = step / (steps - 1), as in the released script, so the last step has a learning rate of 0.

    Raises BadOption for another form, and unless 0 ≤ step < steps.
    """
    check_choice("cosine decay: form", form, get_args(Form))
    if not 0 <= step < steps:
        raise BadOption(f"cosine decay: step {step} is not among {count(steps, 'step')}")
    t = step / steps if form == "paper" else step / max(steps - 1, 1)
    return (1 + math.cos(math.pi * t)) / 2
