"""Exponential moving average of the weights (Polyak and Juditsky 1992), as trainers use it today. Not in the paper."""

from __future__ import annotations

import torch
from torch import nn

from trickzoo.errors import BadOption


def ema_decay(step: int, decay: float) -> float:
    """Return the decay after step t, counted from 0: min(decay, (1 + t) / (10 + t)), so that the first weights soon lose their influence.

    Raises BadOption for a decay outside [0, 1). With a decay of 1 the average would never change.
    """
    if not 0 <= decay < 1:
        raise BadOption(f"ema: the decay must be in [0, 1), not {decay}")
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Update the average in place: decay · average + (1 - decay) · model. This includes BatchNorm's statistics. Integers are copied.

    The two networks are of one architecture. Raises ValueError if they have different numbers of tensors.
    """
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)
