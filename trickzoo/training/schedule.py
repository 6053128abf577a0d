"""Learning-rate schedules: the learning rate of each step by a recipe."""

from __future__ import annotations

from trickzoo.errors import BadOption, NoEffect
from trickzoo.recipes.finetune import FineTuning
from trickzoo.recipes.recipe import Recipe
from trickzoo.tricks.cosine import cosine_factor
from trickzoo.tricks.step_decay import step_factor
from trickzoo.tricks.warmup import warmup_factor


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of the 0-based `step` in the training of a classifier.

    The warm-up comes first. The cosine schedule spans the steps after it; the milestones of the step schedule count from the first step.
    """
    warmup = round(recipe.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return recipe.lr * warmup_factor(step, warmup)
    if recipe.schedule == "step":
        return recipe.lr * step_factor(step / steps_per_epoch, recipe.milestones)
    return recipe.lr * cosine_factor(step - warmup, recipe.epochs * steps_per_epoch - warmup, form=recipe.cosine_form)


def check(recipe: Recipe | FineTuning, steps_per_epoch: int) -> None:
    """Raise BadOption if the warm-up takes the whole training, and NoEffect if no milestone of a step schedule is within the training."""
    warmup, field = (
        (recipe.warmup_steps / steps_per_epoch, "warmup_steps")
        if isinstance(recipe, FineTuning)
        else (recipe.warmup_epochs, "warmup_epochs")
    )
    if warmup >= recipe.epochs:
        raise BadOption(f"{warmup:g} epochs of warm-up leave nothing of {recipe.epochs} epochs; change {field} or epochs")
    if recipe.schedule == "step" and recipe.milestones and not any(0 < milestone < recipe.epochs for milestone in recipe.milestones):
        raise NoEffect("step decay", f"no milestone of {', '.join(f'{m:g}' for m in recipe.milestones)} is within {recipe.epochs} epochs")


def fine_tuning_rate(recipe: FineTuning, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of the 0-based `step` in the training of a detector or segmenter.

    The warm-up is a factor on the schedule, as in the released scripts of the paper.
    """
    along = step / (recipe.epochs * steps_per_epoch)
    rate = recipe.lr * (
        step_factor(step / steps_per_epoch, recipe.milestones) if recipe.schedule == "step" else (1 - along) ** recipe.power
    )
    if step < recipe.warmup_steps:
        rate *= recipe.warmup_start + (1 - recipe.warmup_start) * step / recipe.warmup_steps
    return rate
