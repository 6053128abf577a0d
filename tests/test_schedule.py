"""The learning rate of each step, and its warm-up."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import pytest

from trickzoo.recipes.finetune import COCO_BOXES, SMALL_MASKS, FineTuningRecipe
from trickzoo.recipes.recipe import Recipe
from trickzoo.training.schedule import fine_tuning_rate, learning_rate, notes


def test_the_learning_rate_of_each_step_follows_the_recipe() -> None:
    recipe = Recipe("r", "resnet50", "x", epochs=120, lr=0.4, warmup_epochs=5, schedule="cosine")
    rates = [learning_rate(recipe, step, 100) for step in range(12_000)]
    assert rates[0] == pytest.approx(0.4 / 500)
    assert max(rates) == rates[499] == rates[500] == pytest.approx(0.4)
    assert rates[500 + 11_500 // 2] == pytest.approx(0.2)
    assert 0 < rates[-1] < 1e-7
    steps = recipe.but("s", schedule="step")
    assert [learning_rate(steps, epoch * 100, 100) for epoch in (29, 30, 60, 90, 119)] == pytest.approx([0.4, 0.04, 0.004, 0.0004, 0.0004])
    assert math.isclose(learning_rate(steps, 3 * 100 - 1, 100), 0.4 * 300 / 500)


@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_a_warm_up_takes_at_most_half_of_the_training(schedule: Literal["cosine", "step"]) -> None:
    recipe = Recipe("r", "resnet50", "x", epochs=1, lr=0.4, warmup_epochs=5, schedule=schedule)
    rates = [learning_rate(recipe, step, 10) for step in range(10)]
    assert rates[:6] == pytest.approx([0.08, 0.16, 0.24, 0.32, 0.4, 0.4])
    assert notes(recipe, 10) == ["the warm-up is shortened from 50 steps to 5, because the training has only 10 steps"]
    assert notes(replace(recipe, epochs=10), 10) == notes(replace(recipe, warmup_epochs=0.5), 10) == []
    assert learning_rate(recipe, 0, 1) == 0.4  # a single step has no warm-up


@pytest.mark.parametrize("recipe", [COCO_BOXES.but("short", epochs=2), SMALL_MASKS.but("short", epochs=2, warmup_steps=1000)])
def test_the_warm_up_of_a_fine_tuning_takes_at_most_half_of_it(recipe: FineTuningRecipe) -> None:
    factors = [fine_tuning_rate(recipe, step, 10) / fine_tuning_rate(replace(recipe, warmup_steps=0), step, 10) for step in range(20)]
    assert factors == pytest.approx([1 / 3 + 2 / 3 * step / 10 for step in range(10)] + [1.0] * 10)
    assert notes(recipe, 10) == ["the warm-up is shortened from 1,000 steps to 10, because the training has only 20 steps"]
