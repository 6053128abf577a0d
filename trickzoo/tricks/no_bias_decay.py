"""No bias decay (section 3.1): weight decay acts on the weights of convolutions and linear layers, and on nothing else."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from trickzoo.errors import NoEffect

DECAYED = (nn.modules.conv._ConvNd, nn.Linear, nn.MultiheadAttention)
"""The layers whose weights are decayed."""
COMPUTED = ("weight_orig", "weight_g", "weight_v")
"""Names of the parameters that `torch.nn.utils.prune`, `spectral_norm` and `weight_norm` compute a weight from."""
PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
"""Names of the weights of the linear layers inside `nn.MultiheadAttention`."""


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trainable parameters into two groups for an optimiser, one with weight decay and one without.

    All biases and all parameters of normalisation layers are exempt from weight decay. A normalisation layer is recognised by its class,
    not by its name. A parameter that several modules share is decayed if it is the weight of a convolution or a linear layer in one of
    them. The projections inside `nn.MultiheadAttention` count as linear layers. Parameters from which torch's parametrisations, norms of
    weights or pruning compute such a weight are decayed too.

    Raises NoEffect if the model has no parameter that the rule exempts.
    """
    layers: list[nn.Module] = [module for module in model.modules() if isinstance(module, DECAYED)]
    made = {module.get_submodule("parametrizations.weight") for module in layers if is_parametrized(module, "weight")}
    weights = {
        parameter
        for module in (*layers, *made)
        for name, parameter in module.named_parameters(recurse=False)
        if module in made or name in ("weight", *COMPUTED, *PROJECTIONS)
    }
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed, exempt = ([parameter for parameter in trained if (parameter in weights) is wanted] for wanted in (True, False))
    if not exempt:
        raise NoEffect("no bias decay", "the model has neither trainable biases nor normalisation layers")
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]
