"""Learning-rate warm-up (section 3.1, after Goyal et al., arXiv 1706.02677)."""

from __future__ import annotations


def warmup_factor(step: int, warmup_steps: int) -> float:
    """Factor on the learning rate at 0-based `step`: (step + 1) / warmup_steps, and 1 once the warm-up is over.

    The paper counts batches from 1: batch i of the first m has i · η / m, so the last of them has η.
    """
    return 1.0 if step >= warmup_steps else (step + 1) / warmup_steps
