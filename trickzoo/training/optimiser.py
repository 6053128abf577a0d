"""The optimiser of a recipe."""

from __future__ import annotations

from typing import Any

import torch

from trickzoo.recipes.collection import AnyRecipe


def build(recipe: AnyRecipe, parameters: Any, *, nesterov: bool = False) -> torch.optim.Optimizer:
    """Return SGD with momentum, or AdamW, with the settings of a recipe.

    Args:
        recipe: learning rate, momentum and weight decay. AdamW (Loshchilov and Hutter, arXiv 1711.05101) takes the momentum as β1; β2 is
            0.999.
        parameters: parameters, or groups of parameters with their own weight decay or factor of the learning rate.
        nesterov: whether the momentum of SGD is Nesterov's.
    """
    if recipe.optimizer == "adamw":
        betas = (recipe.momentum, 0.999)
        return torch.optim.AdamW(parameters, lr=recipe.lr, betas=betas, weight_decay=recipe.weight_decay, fused=True)
    return torch.optim.SGD(
        parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=nesterov, fused=True
    )
