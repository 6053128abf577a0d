"""Linear scaling of the learning rate (section 3.1)."""

from __future__ import annotations

from trickzoo.errors import BadOption


def scaled_lr(lr: float, batch_size: int, *, per: int = 256) -> float:
    """Return the learning rate for a batch of `batch_size`, given the one for a batch of `per`: lr · batch_size / per.

    A batch size counts the images of all processes and of all accumulated micro-batches of a step.

    Raises BadOption if a batch size is not positive.
    """
    if batch_size < 1 or per < 1:
        raise BadOption(f"linear scaling: batch sizes must be 1 or more, not {batch_size} per {per}")
    return lr * batch_size / per
