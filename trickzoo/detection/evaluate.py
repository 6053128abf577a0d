"""Prediction and evaluation of detectors, on one image and on a set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor, nn

from trickzoo import drawing
from trickzoo.data.annotated_transforms import DetectionSample, DetectionSamples, FitAndFlip, to_file
from trickzoo.data.batches import map_share, not_none
from trickzoo.data.boxes import DetectionSet
from trickzoo.data.images import rgb
from trickzoo.data.objects import Objects
from trickzoo.detection import box_files, report
from trickzoo.detection.metrics import DetectionEvaluation, Detections, NamedDetections
from trickzoo.detection.model import FasterRCNN
from trickzoo.errors import NOT_FINITE, NotFinite
from trickzoo.modes import evaluating
from trickzoo.training.annotated_evaluation import AnnotatedEvaluation
from trickzoo.training.stopping import stoppable
from trickzoo.tricks.low_precision import Precision, autocast, precision_of


def metrics(found: DetectionEvaluation) -> dict[str, Any]:
    """Return the summary of an evaluation under the names that result files use."""
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
    """Return what a detector finds in a set, gathered from all processes.

    Each process takes its share, one image at a time: in a batch, the padding of other images would change the features at the borders.
    On a CPU each worker runs the detector on one thread.
    `progress` is called with the number of images that this process has just finished.
    """
    find = Finder(net.eval(), accelerator.device, precision_of(accelerator))
    each = map_share(DetectionSamples(data, transform), find, accelerator, len(data), workers)
    return _gathered(each, data, accelerator, progress)


def _gathered(
    each: Iterator[tuple[int, Sequence[ArrayLike]]], data: DetectionSet, accelerator: Accelerator, progress: Callable[[int], None]
) -> DetectionEvaluation:
    """Return the detections in the images of a set, given those of this process by the index of the image, gathered from all processes."""
    found = DetectionEvaluation(data)
    for index, detections in stoppable(each, accelerator):
        found.add(index, *detections)
        progress(1)
    found.gather()
    return found


@dataclass(frozen=True)
class Finder:
    """Finds the objects in a sample with a detector, in this process or in a worker."""

    net: nn.Module
    device: torch.device
    precision: Precision

    @torch.inference_mode()
    def __call__(self, sample: DetectionSample) -> tuple[int, tuple[Tensor, Tensor, Tensor]]:
        """Return the index of the image, and its boxes in pixels of the file, scores and labels."""
        with autocast(self.device, self.precision):
            return sample.index, _find(self.net, not_none(sample.pixels), sample.size, self.device)


@dataclass(frozen=True)
class WholeFinder:
    """Finds the objects in a whole image with a function that resizes it itself, such as that of an exported file."""

    find: Callable[[Image.Image], Detections]

    def __call__(self, sample: DetectionSample) -> tuple[int, Detections]:
        """Return the index of the image, and its boxes in pixels of the file, scores and labels."""
        pixels = not_none(sample.pixels)
        boxes, scores, labels = self.find(Image.fromarray(pixels.permute(1, 2, 0).numpy()))
        return sample.index, Detections(to_file(torch.from_numpy(boxes), pixels, sample.size).numpy(), scores, labels)


def evaluate_set(
    model: FasterRCNN | Callable[[Image.Image], Detections],
    data: DetectionSet,
    accelerator: Accelerator,
    *,
    workers: int = 0,
    predictions: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> AnnotatedEvaluation:
    """Evaluate a detector by VOC's and COCO's average precision. The arguments are those of `tasks.AnnotatedTaskPackage`.

    All boxes are written to the JSON file `predictions` in COCO's results format, and those to find beside it.
    """
    if isinstance(model, FasterRCNN):
        transform = FitAndFlip(*model.sides)
        found = detect(model.to(accelerator.device), data, transform, accelerator, workers=workers, progress=progress)
    else:
        each = map_share(DetectionSamples(data, None), WholeFinder(model), accelerator, len(data), workers, here=True)
        found = _gathered(each, data, accelerator, progress)
    if accelerator.is_main_process and predictions is not None:
        box_files.write(predictions, data, found.found)
    summary = found.summary()
    columns = ("VOC AP50 11-point", "VOC AP50 all-point", "COCO AP")
    counts = np.bincount(data.objects.labels[data.objects.plain], minlength=len(data.classes) + 1)[1:].tolist()
    rows = [(name, n, *(summary["per_class"][name][column] for column in columns)) for name, n in zip(data.classes, counts, strict=True)]
    shown = {f"{kind.upper()} {name}": value for kind in ("voc", "coco") for name, value in summary[kind].items()}
    header = ("class", "objects", *columns)
    return AnnotatedEvaluation(
        summary, shown, header, rows, lambda n: (report.findings(found, summary), report.sections(found, summary, n))
    )


def compare(data: DetectionSet, index: int, models: Sequence[FasterRCNN]) -> tuple[str, list[Image.Image]]:
    """Return a caption and pictures of one image: one with its annotated boxes, and one for each detector.

    A detector's picture shows as many boxes as are annotated, those with the highest scores.
    """
    image = data.read(index)
    truth = data.objects_in(index, image)
    views = [drawing.draw_boxes(image, truth.boxes, truth.labels, data.classes, side=drawing.SMALL)]
    for model in models:
        boxes, scores, labels = (each[: len(truth)] for each in predict(model, image))
        views.append(drawing.draw_boxes(image, boxes, labels, data.classes, scores, side=drawing.SMALL))
    return f"Boxes in {data.name(index)}: those annotated, and as many from each detector, with the highest scores.", views


@torch.inference_mode()
def predict(model: FasterRCNN, image: Image.Image) -> NamedDetections:
    """Return the boxes that a detector finds in an image of any mode, by decreasing score.

    The detector predicts in evaluation mode; its own mode does not change. Coordinates are in pixels of the image. Labels begin at 1, as in
    torchvision's detectors. `names` has the name of each box's class, or its label if the detector does not come from a file.
    Raises BadData for an image of 32-bit integers or floating-point numbers, whose range is unknown, and NotFinite if the outputs of the
    detector are not finite.
    """
    image = rgb(image)
    pixels, _, _ = FitAndFlip(*model.sides)(image, Objects.of(()))
    with evaluating(model):
        boxes, scores, labels = _find(model, pixels, image.size, next(model.parameters()).device)
    if scores.isnan().any():
        raise NotFinite(f"the network {NOT_FINITE}")
    found = NamedDetections(boxes.numpy(), scores.numpy(), labels.numpy())
    found.names = tuple(map(model.class_name, labels.tolist()))
    return found


def _find(net: Any, pixels: Tensor, size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return what a detector finds in (3, h, w) pixels: boxes scaled to the file's `size`, scores and labels, all on the CPU.

    If its outputs are not finite, torchvision would find nothing. The result is then a single box whose corners and score are NaN.
    """
    finite: list[bool] = []
    parts = (net.rpn.head, net.roi_heads.box_predictor)
    hooks = [part.register_forward_hook(lambda _part, _given, found: finite.append(_is_finite(found))) for part in parts]
    try:
        (result,) = net([to_input(pixels, device).to(next(net.parameters()).dtype)])
    finally:
        for hook in hooks:
            hook.remove()
    if not all(finite):
        return torch.full((1, 4), torch.nan), torch.full((1,), torch.nan), torch.ones(1, dtype=torch.long)
    return to_file(result["boxes"].cpu(), pixels, size), result["scores"].float().cpu(), result["labels"].cpu()


def _is_finite(found: Tensor | Iterable[Tensor]) -> bool:
    return bool(found.isfinite().all()) if isinstance(found, Tensor) else all(map(_is_finite, found))


def to_input(pixels: Tensor, device: torch.device) -> Tensor:
    """Convert (3, h, w) uint8 pixels to float in 0…1 on the device, a detector's input."""
    return pixels.to(device).float() / 255
