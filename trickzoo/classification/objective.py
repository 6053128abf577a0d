"""The loss of a batch, with label smoothing, mixup or CutMix, and distillation, in the order of the paper."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from trickzoo.recipes.recipe import Recipe
from trickzoo.recipes.trick_fields import actions
from trickzoo.tricks.distillation import distillation_loss
from trickzoo.tricks.label_smoothing import smooth_labels, soft_cross_entropy


def targets(recipe: Recipe, images: Tensor, labels: Tensor, num_classes: int, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the images and (N, num_classes) target probabilities. Labels are smoothed first, and then mixed together with the images.

    With (num_classes,) `weights` of the classes, the probabilities of each image are multiplied by the weight of its class before they are
    mixed. This weighs the whole loss of the image. If the term of each class had the weight of that class instead, the smoothed label of an
    image from a large class would have most of its weight on a small one.
    """
    target = (
        smooth_labels(labels, num_classes, recipe.smoothing, form=recipe.smoothing_form)
        if recipe.smoothing
        else F.one_hot(labels, num_classes).float()
    )
    if weights is not None:
        target = target * weights[labels][:, None]
    mixing = actions(recipe, "batch")
    if not mixing:
        return images, target
    chosen = mixing[int(torch.rand(()) * len(mixing))] if len(mixing) > 1 else mixing[0]
    mixed: tuple[Tensor, Tensor] = chosen.function(images, target, chosen.value, **chosen.options)
    return mixed


def loss(recipe: Recipe, logits: Tensor, target: Tensor, teacher: Tensor | None) -> Tensor:
    """Return the scalar training loss of (N, K) logits.

    `target` is that of `targets`, with the weights of the classes if the recipe balances the loss, and `teacher` contains the teacher's
    logits for the same images, after mixing.
    """
    hard = soft_cross_entropy(logits, target)
    if teacher is None:
        return hard
    weights = target.sum(1) if recipe.balance == "loss" else None
    return distillation_loss(logits, teacher, hard, temperature=recipe.temperature, form=recipe.distillation_form, weights=weights)
