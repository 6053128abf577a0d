"""Learning-rate warm-up (section 3.1, after Goyal et al., arXiv 1706.02677)."""

from __future__ import annotations


def warmup_factor(step: int, warmup_steps: int) -> float:
    """Return the factor of the learning rate at a step, counted from 0: (step + 1) / warmup_steps, and 1 after the warm-up.

    The paper counts batches from 1: batch i of the first m has the learning rate i · η / m, so batch m has η.
    """
    return 1.0 if step >= warmup_steps else (step + 1) / warmup_steps
