"""Learning-rate schedules: the learning rate of each step by a recipe."""

from __future__ import annotations

from trickzoo.errors import NoEffect
from trickzoo.recipes.finetune import FineTuningRecipe
from trickzoo.recipes.recipe import Recipe
from trickzoo.tricks.cosine import cosine_factor
from trickzoo.tricks.step_decay import step_factor
from trickzoo.tricks.warmup import warmup_factor
from trickzoo.wording import count


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of the 0-based `step` in the training of a classifier.

    The warm-up comes first. The cosine schedule spans the steps after it; the milestones of the step schedule count from the first step.
    """
    warmup = warmup_steps(recipe, steps_per_epoch)
    if step < warmup:
        return recipe.lr * warmup_factor(step, warmup)
    if recipe.schedule == "step":
        return recipe.lr * step_factor(step / steps_per_epoch, recipe.milestones)
    return recipe.lr * cosine_factor(step - warmup, recipe.epochs * steps_per_epoch - warmup, form=recipe.cosine_form)


def warmup_steps(recipe: Recipe | FineTuningRecipe, steps_per_epoch: int) -> int:
    """Return the number of warm-up steps: those of the recipe, but at most half of the steps of the training."""
    return min(_stated_warmup(recipe, steps_per_epoch), recipe.epochs * steps_per_epoch // 2)


def _stated_warmup(recipe: Recipe | FineTuningRecipe, steps_per_epoch: int) -> int:
    return recipe.warmup_steps if isinstance(recipe, FineTuningRecipe) else round(recipe.warmup_epochs * steps_per_epoch)


def notes(recipe: Recipe | FineTuningRecipe, steps_per_epoch: int) -> list[str]:
    """Return a sentence if the training is too short for the warm-up of its recipe, otherwise nothing."""
    stated, used = _stated_warmup(recipe, steps_per_epoch), warmup_steps(recipe, steps_per_epoch)
    if used == stated:
        return []
    steps = count(recipe.epochs * steps_per_epoch, "step")
    return [f"the warm-up is shortened from {count(stated, 'step')} to {used:,}, because the training has only {steps}"]


def check(recipe: Recipe | FineTuningRecipe) -> None:
    """Raise NoEffect if no milestone of a step schedule is within the training."""
    if recipe.schedule == "step" and recipe.milestones and not any(0 < milestone < recipe.epochs for milestone in recipe.milestones):
        raise NoEffect(
            "step decay", f"no milestone of {', '.join(f'{m:g}' for m in recipe.milestones)} is within {count(recipe.epochs, 'epoch')}"
        )


def fine_tuning_rate(recipe: FineTuningRecipe, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of the 0-based `step` in the training of a detector or segmenter.

    The warm-up is a factor on the schedule, as in the released scripts of the paper.
    """
    along = step / (recipe.epochs * steps_per_epoch)
    rate = recipe.lr * (
        step_factor(step / steps_per_epoch, recipe.milestones) if recipe.schedule == "step" else (1 - along) ** recipe.power
    )
    warmup = warmup_steps(recipe, steps_per_epoch)
    if step < warmup:
        rate *= recipe.warmup_start + (1 - recipe.warmup_start) * step / warmup
    return rate
