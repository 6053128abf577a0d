"""Cosine decay of the learning rate (section 5.1, after Loshchilov and Hutter, arXiv 1608.03983)."""

from __future__ import annotations

import math
from typing import Literal

from trickzoo.errors import BadOption


def cosine_factor(step: int, steps: int, *, form: Literal["paper", "official"] = "paper") -> float:
    """Factor on the learning rate at 0-based `step` of `steps`, the warm-up left out of both: (1 + cos(π t)) / 2.

    "paper": t = step / steps, so the factor would reach 0 one step after the last. "official": t = step / (steps - 1), as the released
    script has it: the last step trains with a rate of 0. Raises BadOption unless 0 ≤ step < steps.
    """
    if not 0 <= step < steps:
        raise BadOption(f"cosine decay: step {step} is not among {steps} steps")
    t = step / steps if form == "paper" else step / max(steps - 1, 1)
    return (1 + math.cos(math.pi * t)) / 2
