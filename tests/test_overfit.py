"""Eight real images are learnt by heart: boxes, labels and masks line up from the files to the metric."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from trickzoo import detection, segmentation
from trickzoo.data.boxes import DetectionSet
from trickzoo.data.location import AnnotatedLocation, Splits
from trickzoo.data.masks import SegmentationSet
from trickzoo.recipes.finetune import SMALL_BOXES, SMALL_MASKS
from trickzoo.training import loop
from trickzoo.training.machine import Machine
from trickzoo.training.task import Task

pytestmark = [pytest.mark.packs, pytest.mark.slow, pytest.mark.timeout(3600)]
N = 8
BY_HEART: dict[str, Any] = {"weights": "tz_imagenette128", "batch_size": N, "flip": 0.0}
"""Nothing changes an image."""


def some(data: DetectionSet) -> DetectionSet:
    """The first images that have objects to train on."""
    chosen = [i for i in range(len(data)) if data.objects_of(i).plain.any() and not data.objects_of(i).crowd.any()][:N]
    parts = [data.objects_of(i) for i in chosen]
    fields = type(data.objects).__dataclass_fields__
    joined = type(data.objects)(*(torch.cat([torch.from_numpy(getattr(part, name)) for part in parts]).numpy() for name in fields))
    starts = torch.tensor([0, *map(len, parts)]).cumsum(0).numpy()
    return replace(data, images=tuple(data.images[i] for i in chosen), objects=joined, starts=starts)


def learnt(task: Task, out: Path) -> dict[str, Any]:
    return loop.fit(task, out, seed=0, accelerator=task.accelerator, evaluate_every=task.recipe.epochs).evaluation


@pytest.mark.parametrize(
    ("layout", "pack", "epochs", "short", "long", "anchors", "proposals"),
    [
        ("voc", "bccd", 400, 256, 384, (12, 24, 48, 96, 192), 1000),  # few proposals are all of the many red cells
        ("voc", "voc_mini", 300, 256, 384, (16, 32, 64, 128, 256), 300),
        ("coco", "coco_mini", 300, 320, 512, (12, 32, 80, 192, 384), 300),  # from a car of 13 x 4 pixels to a giraffe of 374 x 426
    ],
)
def test_boxes(
    layout: str, pack: str, epochs: int, short: int, long: int, anchors: tuple[int, ...], proposals: int, packs: Path, tmp_path: Path
) -> None:
    data = some(AnnotatedLocation(layout, packs / pack).open("detection", "train"))
    sizes: dict[str, Any] = {"short": short, "long": long, "anchors": anchors, "rois": 128, "proposals": proposals}
    recipe = SMALL_BOXES.but("by heart", data=layout, epochs=epochs, **sizes, **BY_HEART)
    found = learnt(detection.new_task(recipe, Splits(data, data), Machine(out=tmp_path, workers=0), Accelerator(cpu=True)), tmp_path)
    assert found["voc_ap50"] > 90
    assert found["coco_ap50"] > 90


def learn_masks(data: SegmentationSet, layout: str, out: Path, **fields: Any) -> float:
    recipe = SMALL_MASKS.but("by heart", data=layout, scale=(1.0, 1.0), output_stride=8, lr=0.05, **BY_HEART, **fields)
    task = segmentation.new_task(recipe, Splits(data, data), Machine(out=out, workers=0), Accelerator(cpu=True))
    return float(learnt(task, out)["miou"])


def test_masks_of_voc(packs: Path, tmp_path: Path) -> None:
    data = AnnotatedLocation("voc", packs / "voc_mini").open("segmentation", "train")
    data = replace(data, pairs=data.pairs[:N])
    assert learn_masks(data, "voc", tmp_path, epochs=700, base=500, short=None, crop=256) > 90  # 500 is VOC's long side


def test_masks_of_camvid(packs: Path, tmp_path: Path) -> None:
    """The middles of frames, four times as large: a pole is three pixels wide, and the map's cells are eight."""
    frames = AnnotatedLocation("lists", packs / "camvid").open("segmentation", "train")
    data = AnnotatedLocation("lists", middles(frames, tmp_path / "middles")).open("segmentation", "train")
    assert learn_masks(data, "lists", tmp_path / "run", epochs=1500, base=704, short=528, crop=320, aux=0.0) > 90


def middles(frames: SegmentationSet, out: Path, width: int = 160, height: int = 120, least: int = 150) -> Path:
    """The first in which no class has fewer pixels than `least`, of which the annotation's edge would decide; written as CamVid is."""
    out.mkdir()
    pairs: list[str] = []
    for index in range(len(frames)):
        if len(pairs) == N:
            break
        image, mask = frames.read(index)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        mask = mask[top : top + height, left : left + width]
        counts = np.bincount(mask.ravel(), minlength=256)[: len(frames.classes)]
        if counts[counts > 0].min() >= least:
            image.crop((left, top, left + width, top + height)).save(out / f"{index}.png")
            Image.fromarray(mask).save(out / f"{index}_mask.png")
            pairs.append(f"{index}.png {index}_mask.png\n")
    (out / "train.txt").write_text("".join(pairs))
    (out / "classes.txt").write_text("\n".join(frames.classes))
    return out
