"""No bias decay (section 3.1): weight decay acts on the weights of convolutions and linear layers, and on nothing else."""

from __future__ import annotations

from typing import Any

from torch import nn

from trickzoo.errors import NoEffect


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trainable parameters into two groups for an optimiser, one with weight decay and one without.

    All biases and all parameters of normalisation layers are exempt from weight decay. A normalisation layer is recognised by its class,
    not by its name. A parameter that several modules share is decayed if it is the weight of a convolution or a linear layer in one of
    them. Raises NoEffect if the model has no parameter that the rule exempts.
    """
    is_decayed: dict[nn.Parameter, bool] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                is_weight = name == "weight" and isinstance(module, (nn.modules.conv._ConvNd, nn.Linear))
                is_decayed[parameter] = is_weight or is_decayed.get(parameter, False)
    decayed, exempt = ([parameter for parameter, state in is_decayed.items() if state is wanted] for wanted in (True, False))
    if not exempt:
        raise NoEffect("no bias decay", "the model has neither trainable biases nor normalisation layers")
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]
