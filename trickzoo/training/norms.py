"""The check that BatchNorm has enough values to normalise in a training run."""

from __future__ import annotations

import copy

import torch
from torch import nn

from trickzoo.errors import BadOption


def check_norms(model: nn.Module, micro: int, size: int) -> None:
    """Raise BadOption if training on micro-batches of `micro` images of `size` × `size` pixels gives a BatchNorm one value per channel.

    This happens with one image whose last feature map is 1 × 1. A single value has no variance.
    """
    if micro > 1:
        return
    probe = copy.deepcopy(model).to("meta").train()
    try:
        probe(torch.empty(1, 3, size, size, device="meta"))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise BadOption(
            f"one image of {size} × {size} pixels gives BatchNorm a single value of each channel; take micro-batches of two images or more "
            "(--batch-size, --micro-batch, fewer processes), or larger images"
        ) from None
