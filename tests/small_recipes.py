"""Fine-tunings that take seconds: a recipe for each task, and functions that run them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from trickzoo import segmentation, tasks
from trickzoo.data.location import AnnotatedLocation
from trickzoo.recipes import finetune as recipes
from trickzoo.training import job as jobs
from trickzoo.training.machine import Machine

BOXES = recipes.SMALL_BOXES.but(
    "test.detection", data="shapes", weights=None, epochs=2, batch_size=4, short=48, long=48, fpn_channels=16, representation_size=16,
    anchors=(8, 16, 32, 48, 64), proposals=20, rois=8, warmup_steps=2,
)  # fmt: skip
MASKS = recipes.SMALL_MASKS.but(
    "test.segmentation", data="shapes", weights=None, epochs=2, batch_size=4, base=48, crop=48, short=48
)  # fmt: skip
BOTH = pytest.mark.parametrize("recipe", [BOXES, MASKS], ids=lambda recipe: recipe.task)
SHAPES = AnnotatedLocation("shapes", images=12)


def run(
    recipe: Any, out: Path, source: AnnotatedLocation = SHAPES, *, report: Any = lambda progress: None, **options: Any
) -> dict[str, Any]:
    """Fine-tune a network on the images of `source`, and return the result."""
    settings = Machine(out=out, **{"workers": 0, "device": "cpu", **options})
    return jobs.run(tasks.prepare(recipe, source, settings), report)


def without_batch_statistics(accelerator: Accelerator, *, dropout: float = 0.1, **options: Any) -> segmentation.task.Segmentation:
    """Return the fine-tuning of a segmenter whose gradient does not depend on how the batch is divided.

    BatchNorm keeps its statistics, those of pretrained weights, because otherwise few gradients reach the first layers. Crops of small
    images are padded, so that the numbers of labelled pixels differ.
    """
    recipe = MASKS.but("frozen", model=f"{MASKS.model}.tz_imagenette128", norms="frozen", scale=(0.5, 2.0))
    machine = Machine(out=Path("unused"), workers=0, **options)
    splits = segmentation.open_data(recipe, SHAPES, machine)
    torch.manual_seed(0)
    model = segmentation.task.build(recipe, len(splits.train.classes))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train = lambda mode=True: None  # type: ignore[assignment, misc, return-value]
            module.training = False
        if isinstance(module, torch.nn.Dropout):
            assert module.p == 0.1
            module.p = dropout
    return segmentation.task.Segmentation(recipe, model, splits, machine, accelerator)  # type: ignore[arg-type]
