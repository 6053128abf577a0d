"""Fine-tunings that take seconds: a recipe for each task, and how to run one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trickzoo import tasks
from trickzoo.data.location import AnnotatedLocation
from trickzoo.recipes import finetune as recipes
from trickzoo.training import job as jobs
from trickzoo.training.job import Machine

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
    """Fine-tune, and return the result."""
    settings = Machine(out=out, **{"workers": 0, "use_cpu": True, **options})
    return jobs.run(tasks.prepare(recipe, source, settings), report)
