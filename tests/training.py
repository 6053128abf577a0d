"""Trainings that take seconds: a recipe, options of the command line, and functions that run and compare them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import nn

from trickzoo.backbone import Backbone
from trickzoo.classification.model import prepare
from trickzoo.classification.task import Classification
from trickzoo.data.loaders import TrainingImages
from trickzoo.data.resident import Resident
from trickzoo.recipes.recipe import Augmentation, Recipe
from trickzoo.training import loop

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
    model = prepare(recipe, len(data.classes), 0)
    train(recipe, model, data, val, out, **options)
    return model.state_dict()


class Finished(NamedTuple):
    """A training of `RECIPE` that ran without a stop: its weights, and its folder, where nobody is to write."""

    weights: dict[str, torch.Tensor]
    folder: Path

    def log(self) -> str:
        """The content of its log."""
        return (self.folder / "metrics.jsonl").read_text()


def finished(data: Any, val: Resident, folder: Path) -> Finished:
    return Finished(run(data, folder, val=val), folder)


def train(
    recipe: Recipe,
    model: Backbone,
    data: TrainingImages,
    val: Resident | None,
    out: Path,
    *,
    accelerator: Accelerator | None = None,
    micro_batch: int | None = None,
    teacher: nn.Module | None = None,
    **options: Any,
) -> None:
    """Train a network that is built already. `options` are passed to `loop.fit`."""
    accelerator = accelerator or Accelerator(cpu=True)
    task = Classification(recipe, model, data, val, seed=0, accelerator=accelerator, micro_batch=micro_batch, teacher=teacher)
    loop.fit(task, out, seed=0, accelerator=accelerator, **options)
    task.finish()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
