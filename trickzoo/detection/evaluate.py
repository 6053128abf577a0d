"""What a detector finds: in one image, and in a set, with its figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn

from trickzoo.data.annotated_transforms import DetectionSamples, FitAndFlip, to_file
from trickzoo.data.boxes import DetectionSet, Objects
from trickzoo.data.loaders import read_share, there
from trickzoo.detection.metrics import DetectionEvaluation, Detections
from trickzoo.detection.model import FasterRCNN


def figures(found: DetectionEvaluation) -> dict[str, Any]:
    """The evaluation's summary under the names of result files."""
    summary = found.summary()
    voc, coco = summary["voc"], summary["coco"]
    return {
        "voc_ap50": voc["AP50 all-point"],
        "voc_ap50_11_point": voc["AP50 11-point"],
        "coco_ap": coco["AP"],
        "coco_ap50": coco["AP50"],
        "coco_ap75": coco["AP75"],
        **{f"coco_ap_{size}": coco[f"AP {size}"] for size in ("small", "medium", "large")},
        "coco_ar100": coco["AR 100"],
        "per_class": summary["per_class"],
    }


@torch.inference_mode()
def detect(
    net: nn.Module,
    data: DetectionSet,
    transform: FitAndFlip,
    accelerator: Accelerator,
    *,
    workers: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> DetectionEvaluation:
    """What a detector finds in a set, one image at a time (its borders then see no other image's padding), each process on its share.

    `progress` is called with the number of images that this process has just finished.
    """
    net.eval()
    found = DetectionEvaluation(data)
    for sample in read_share(DetectionSamples(data, transform), accelerator, len(data), workers):
        with accelerator.autocast():
            found.add(sample.index, *_find(net, there(sample.pixels), sample.size, accelerator.device))
        progress(1)
    found.gather()
    return found


@torch.inference_mode()
def predict(model: FasterRCNN, image: Image.Image) -> Detections:
    """What a detector from `load` finds in an RGB image, in its pixels, by falling score."""
    assert model.recipe is not None
    pixels, _, _ = FitAndFlip(model.recipe.short, model.recipe.long)(image, Objects.of(()))
    boxes, scores, labels = _find(model.eval(), pixels, image.size, next(model.parameters()).device)
    return Detections(boxes.numpy(), scores.numpy(), labels.numpy())


def _find(net: nn.Module, pixels: Tensor, size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes in a file of `size`, scores and labels that a detector finds in its (3, h, w) pixels, all on the CPU."""
    (result,) = net([_input(pixels, device)])
    return to_file(result["boxes"], pixels, size).cpu(), result["scores"].float().cpu(), result["labels"].cpu()


def _input(pixels: Tensor, device: torch.device) -> Tensor:
    return pixels.to(device).float() / 255
