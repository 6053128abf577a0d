"""Linear scaling of the learning rate (section 3.1)."""

from __future__ import annotations

from trickzoo.errors import BadOption


def scaled_lr(lr: float, batch_size: int, *, per: int = 256) -> float:
    """The learning rate for a total batch of `batch_size` when `lr` is right for one of `per`: lr · batch_size / per.

    `batch_size` counts every process and every accumulated micro-batch. Raises BadOption if a batch size is not positive.
    """
    if batch_size < 1 or per < 1:
        raise BadOption(f"linear scaling: batch sizes are 1 or more, not {batch_size} per {per}")
    return lr * batch_size / per
