"""Trainings that take seconds: a recipe, options of the command line, and functions that run and compare them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

import trickzoo
from trickzoo.classification import task
from trickzoo.classification.model import prepare
from trickzoo.data.resident import Resident
from trickzoo.recipes.recipe import Augmentation, Recipe

RECIPE = Recipe(
    "test.tiny",
    "mobilenet_v1_025",
    "colours",
    size=32,
    epochs=2,
    batch_size=8,
    lr=0.05,
    warmup_epochs=0.5,
    schedule="cosine",
    decay_biases_and_norms=False,
    smoothing=0.1,
    mixup=0.2,
    augmentation=Augmentation(jitter_third="contrast"),
)
COSINE = "paper.mobilenet_v1_100.label_smoothing"
SMALL = ("--model", "mobilenet_v1_025", "--size", 32, "--epochs", 3, "--warmup-epochs", 1, "--batch-size", 8, "--precision", "fp32")
"""Options that reduce a recipe such as COSINE to seconds."""


def run(data: Any, out: Path, recipe: Recipe = RECIPE, val: Resident | None = None, **options: Any) -> dict[str, torch.Tensor]:
    """Train a classifier, and return its weights."""
    model = prepare(recipe, len(data.classes), 0, trickzoo.create)
    task.train(recipe, model, data, val, out, seed=0, accelerator=Accelerator(cpu=True), **options)
    return model.state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
