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

    The values of the network are converted to the dtype and the device of the average. Raises BadOption, before anything changes, unless
    the two have the same tensors.
    """
    means, values = average.state_dict(), model.state_dict()
    shapes, own = ({key: tensor.shape for key, tensor in each.items()} for each in (means, values))
    if shapes != own:
        first = next(key for key in shapes | own if shapes.get(key) != own.get(key))
        raise BadOption(f"ema: the average and the network have different tensors, such as {first}; average a copy of the network")
    for key, mean in means.items():
        if mean.is_floating_point():
            mean.lerp_(values[key].to(mean), 1 - decay)
        else:
            mean.copy_(values[key])
