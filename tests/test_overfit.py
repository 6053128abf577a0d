"""Eight real images are learnt by heart: boxes and labels line up from the files to the metric."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from trickzoo import detection, finetune
from trickzoo.data.detection import DetectionSet
from trickzoo.recipes import transfer
from trickzoo.recipes.transfer import DetectionRecipe
from trickzoo.training import loop

pytestmark = [pytest.mark.packs, pytest.mark.slow, pytest.mark.timeout(1800)]
N = 8


def by_heart(recipe: DetectionRecipe, epochs: int) -> DetectionRecipe:
    """The recipe without anything that changes an image."""
    return replace(recipe, weights="tz_imagenette128", epochs=epochs, batch_size=N, flip=0.0)


def some(data: DetectionSet) -> DetectionSet:
    """The first images that have objects to train on."""
    chosen = [i for i in range(len(data)) if data.objects_of(i).plain.any() and not data.objects_of(i).crowd.any()][:N]
    parts = [data.objects_of(i) for i in chosen]
    fields = type(data.objects).__dataclass_fields__
    joined = type(data.objects)(*(torch.cat([torch.from_numpy(getattr(part, name)) for part in parts]).numpy() for name in fields))
    starts = torch.tensor([0, *map(len, parts)]).cumsum(0).numpy()
    return replace(data, images=tuple(data.images[i] for i in chosen), objects=joined, starts=starts)


def test_boxes(packs: Path, tmp_path: Path) -> None:
    data = some(finetune.open_boxes(finetune.Source("voc", packs / "bccd"), "train"))
    recipe = by_heart(transfer.SMALL_BOXES.but("by heart", data="voc", short=256, long=384, anchors=(12, 24, 48, 96, 192), rois=128), 250)
    torch.manual_seed(0)
    model = detection.training.build(recipe, len(data.classes))
    accelerator = Accelerator(cpu=True)
    task = detection.training.Detection(recipe, model, data, data, seed=0, accelerator=accelerator)
    found = loop.fit(task, tmp_path, seed=0, accelerator=accelerator, evaluate_every=recipe.epochs).evaluation
    assert found["voc_ap50"] > 90
    assert found["coco_ap50"] > 90
