"""Evaluating a detector and a segmenter, from files to figures, against the loop of torchvision's scripts.

The peer decodes in as many worker processes, runs the network in the main process with one thread on each core, has torchvision's
RoIAlign, and finds the class of a pixel by `argmax`. trickzoo evaluates so on accelerators. A deployed segmenter runs in OpenVINO. Each
variant runs in a process of its own; in those of trickzoo, malloc is set as its commands set it. The networks have random weights. The
figures are compared.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import MultiScaleRoIAlign

from benchmarks.speed.harness import Comparison, OwnProcess
from trickzoo.data import batches, workers
from trickzoo.data.annotated_transforms import FitAndFlip, Scale
from trickzoo.data.location import AnnotatedLocation
from trickzoo.data.transforms import Normalisation
from trickzoo.deployment.deploy import deploy
from trickzoo.detection import evaluate as detection
from trickzoo.detection import faster_rcnn
from trickzoo.detection.pooling import RoIAlign
from trickzoo.segmentation import evaluate as segmentation
from trickzoo.segmentation import fcn

WHAT = "evaluation of a detector (BCCD, short side 128) and of a segmenter (CamVid, short side 128) from files to figures"
SHORT, BACKBONE = 128, "resnet18_d"
PEER = "torchvision's loop"


def comparisons(data: Path) -> Iterator[Comparison]:
    """Yield the two comparisons, on the validation images of bccd/ and camvid/ in a folder."""
    yield _comparison("Faster R-CNN", _Boxes(AnnotatedLocation("voc", data / "bccd").open("detection", "val")))
    yield _comparison("FCN", _Masks(AnnotatedLocation("lists", data / "camvid").open("segmentation", "val")))


def _comparison(name: str, evaluation: _Boxes | _Masks) -> Comparison:
    variants: dict[str, Callable[[], Any]] = {
        **({"trickzoo, deployed": OwnProcess(True, evaluation, True)} if isinstance(evaluation, _Masks) else {}),
        "trickzoo": OwnProcess(True, evaluation),
        PEER: OwnProcess(False, _as_torchvision, evaluation),
    }
    figures = [run() for run in variants.values()]
    return Comparison(f"{name} on {BACKBONE}, {len(evaluation.data)} images", variants, len(evaluation.data), {"figures": figures})


def _as_torchvision(evaluation: Callable[[], Any]) -> Any:
    def computed(*args: Any, by_workers: bool) -> Any:
        return workers.computed(*args, by_workers=False)

    def classes_of_pixels(logits: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(logits.float(), size, mode="bilinear", align_corners=False).argmax(1).byte()

    with (
        mock.patch.object(batches, "computed", computed),
        mock.patch.object(RoIAlign, "forward", MultiScaleRoIAlign.forward),
        mock.patch.object(segmentation, "classes_of_pixels", classes_of_pixels),
    ):
        return evaluation()


@dataclass
class _Boxes:
    data: Any

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.model = faster_rcnn(BACKBONE, num_classes=len(self.data.classes) + 1, min_size=SHORT, max_size=2 * SHORT)

    def __call__(self) -> dict[str, float]:
        """Return COCO's AP and VOC's AP50."""
        found = detection.detect(self.model, self.data, FitAndFlip(SHORT, 2 * SHORT), Accelerator(cpu=True), workers=os.cpu_count() or 1)
        return {name: detection.metrics(found)[name] for name in ("coco_ap", "voc_ap50")}


@dataclass
class _Masks:
    data: Any

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.model = fcn(BACKBONE, num_classes=len(self.data.classes))
        self.deployed = deploy(self.model, "openvino", threads=1)  # each worker process has one core

    def __call__(self, deployed: bool = False) -> dict[str, float]:
        """Return the mean IoU and the pixel accuracy."""
        normalise, accelerator = Normalisation.of(self.model.trunk), Accelerator(cpu=True)
        net = self.deployed if deployed else self.model
        found = segmentation.segment(net, self.data, Scale(SHORT), normalise, accelerator, workers=os.cpu_count() or 1)
        return {name: found.summary()[name] for name in ("miou", "pixel_accuracy")}
