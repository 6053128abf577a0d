"""The learning rate of each step of a recipe."""

from __future__ import annotations

from trickzoo.errors import BadOption, NoEffect
from trickzoo.recipes.finetune import FineTuning
from trickzoo.recipes.recipe import Recipe
from trickzoo.tricks.cosine import cosine_factor
from trickzoo.tricks.step_decay import step_factor
from trickzoo.tricks.warmup import warmup_factor


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Learning rate at 0-based `step`. Warm-up comes first and is left out of the cosine's T; milestones count from the start."""
    warmup = round(recipe.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return recipe.lr * warmup_factor(step, warmup)
    if recipe.schedule == "step":
        return recipe.lr * step_factor(step / steps_per_epoch, recipe.milestones)
    return recipe.lr * cosine_factor(step - warmup, recipe.epochs * steps_per_epoch - warmup, form=recipe.cosine_form)


def check(recipe: Recipe | FineTuning, steps_per_epoch: int) -> None:
    """Raise BadOption for a warm-up that never ends, NoEffect for a step decay that never comes."""
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
    """Learning rate at 0-based `step` of a detector's or segmenter's training; warm-up is a factor on the schedule, as it was released."""
    along = step / (recipe.epochs * steps_per_epoch)
    rate = recipe.lr * (
        step_factor(step / steps_per_epoch, recipe.milestones) if recipe.schedule == "step" else (1 - along) ** recipe.power
    )
    if step < recipe.warmup_steps:
        rate *= recipe.warmup_start + (1 - recipe.warmup_start) * step / recipe.warmup_steps
    return rate
