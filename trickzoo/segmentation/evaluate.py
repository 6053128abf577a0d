"""Prediction and evaluation of segmenters, on one image and on a set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from trickzoo import drawing
from trickzoo.data.annotated_transforms import Scale, SegmentationSample, SegmentationSamples
from trickzoo.data.batches import map_share, not_none
from trickzoo.data.images import rgb
from trickzoo.data.masks import SegmentationSet
from trickzoo.data.transforms import Normalisation
from trickzoo.errors import NOT_FINITE, NotFinite
from trickzoo.modes import evaluating
from trickzoo.segmentation import report
from trickzoo.segmentation.metrics import ConfusionMatrix, mean_margin
from trickzoo.segmentation.model import Segmenter
from trickzoo.segmentation.predictions import masks_in
from trickzoo.training.annotated_evaluation import AnnotatedEvaluation
from trickzoo.training.stopping import stoppable
from trickzoo.tricks.low_precision import Precision, autocast, precision_of

AT_ONCE = 2**24
"""How many logits `classes_of_pixels` enlarges at once; as float32 they take 64 MB."""


def metrics(found: ConfusionMatrix) -> dict[str, Any]:
    """Return the summary of an evaluation under the names that result files use."""
    summary = found.summary()
    return {name: summary[name] for name in ("miou", "pixel_accuracy", "per_class")}


@torch.inference_mode()
def segment(
    net: Callable[[Tensor], Tensor],
    data: SegmentationSet,
    transform: Scale,
    normalise: Normalisation,
    accelerator: Accelerator,
    *,
    workers: int = 0,
    keep: Callable[[int, Tensor], None] = lambda index, found: None,
) -> ConfusionMatrix:
    """Classify every pixel of a set at the masks' sizes, and return the confusion matrix over all processes.

    Each process takes its share of the images. On a CPU each worker runs the segmenter on one thread. A `net` that is not a module computes
    in a precision of its own, as `trickzoo.deploy` returns it.

    `keep` is called with the index of each image of this process and the (H, W) predicted classes of its pixels.
    """
    precision = precision_of(accelerator) if isinstance(net, nn.Module) else "fp32"
    net = net.eval() if isinstance(net, nn.Module) else net
    label = PixelClassifier(net, normalise, accelerator.device, precision)
    samples = SegmentationSamples(data, transform)
    return _gathered(map_share(samples, label, accelerator, len(data), workers), data, accelerator, keep)


Classified = tuple[int, Tensor, Tensor, float | None]
"""The index of an image, its (H, W) predicted classes at the mask's size, the (H, W) mask, and `mean_margin`; None if it is unknown."""


def _gathered(
    each: Iterator[Classified], data: SegmentationSet, accelerator: Accelerator, keep: Callable[[int, Tensor], None]
) -> ConfusionMatrix:
    """Return the confusion matrix of the images of a set, given those of this process, summed over all processes."""
    found = ConfusionMatrix(data.classes)
    for index, classes, mask, margin in stoppable(each, accelerator):
        found.add(classes, mask, index, np.nan if margin is None else margin)
        found.not_finite += int(margin is not None and np.isnan(margin))
        keep(index, classes)
    found.gather()
    return found


@dataclass(frozen=True)
class PixelClassifier:
    """Classifies the pixels of a sample with a segmenter, in this process or in a worker."""

    net: Callable[[Tensor], Tensor]
    normalise: Normalisation
    device: torch.device
    precision: Precision

    @torch.inference_mode()
    def __call__(self, sample: SegmentationSample) -> Classified:
        """Return the predicted classes of an image. The margin is NaN if the logits are not finite."""
        mask = not_none(sample.mask).to(self.device)
        with autocast(self.device, self.precision):
            logits = self.net(self.normalise(not_none(sample.pixels)[None].to(self.device)))
        margin = mean_margin(logits[0]) if bool(logits.isfinite().all()) else np.nan
        return sample.index, classes_of_pixels(logits, (int(mask.shape[0]), int(mask.shape[1])))[0], mask, margin


@dataclass(frozen=True)
class WholeClassifier:
    """Classifies the pixels of a whole image with a function that resizes it itself, such as that of an exported file."""

    predict: Callable[[Image.Image], NDArray[np.uint8]]

    def __call__(self, sample: SegmentationSample) -> Classified:
        """Return the predicted classes of an image, without a margin."""
        mask, image = not_none(sample.mask), Image.fromarray(not_none(sample.pixels).permute(1, 2, 0).numpy())
        classes = Image.fromarray(self.predict(image))
        if classes.size != (size := (mask.shape[1], mask.shape[0])):  # the image has more than `image_memory.MAX_PIXELS`
            classes = classes.resize(size, Image.Resampling.NEAREST)
        return sample.index, torch.from_numpy(np.array(classes)), mask, None


def evaluate_set(
    model: Segmenter | Callable[[Image.Image], NDArray[np.uint8]],
    data: SegmentationSet,
    accelerator: Accelerator,
    *,
    workers: int = 0,
    predictions: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
    network: Callable[[Tensor], Tensor] | None = None,
) -> AnnotatedEvaluation:
    """Evaluate a segmenter by mean IoU and pixel accuracy. The arguments are those of `tasks.AnnotatedTaskPackage`.

    `predictions` is a new folder for the predicted masks as PNG files, in the class numbers of the set's own masks, and for the counts of
    each image, `predictions.csv`. `network` computes the logits in place of the model, as `trickzoo.deploy` returns it.
    """
    with masks_in(predictions, data, accelerator.is_main_process) as write:

        def keep(index: int, classes: Tensor) -> None:
            write.mask(index, classes)
            progress(1)

        if isinstance(model, Segmenter):
            net, normalise = network or model.to(accelerator.device), Normalisation.of(model.trunk)
            found = segment(net, data, Scale(model.short), normalise, accelerator, workers=workers, keep=keep)
        else:
            each = map_share(SegmentationSamples(data, None), WholeClassifier(model), accelerator, len(data), workers, here=True)
            found = _gathered(each, data, accelerator, keep)
        if accelerator.is_main_process:
            write.counts(found)
    summary = found.summary()
    rows = [(name, n, summary["per_class"][name]) for name, n in zip(data.classes, found.counts.sum(1).tolist(), strict=True)]
    shown = {"mean IoU": summary["miou"], "pixel accuracy": summary["pixel_accuracy"]}
    content, header = {"n": len(data), **summary}, ("class", "pixels", "IoU")
    return AnnotatedEvaluation(content, shown, header, rows, lambda n: (report.findings(found, data), report.sections(found, data, n)))


def first_inputs(model: Segmenter, data: SegmentationSet, n: int) -> list[Tensor]:
    """Return the first n images of a set as `evaluate_set` gives them to a segmenter, each (1, 3, h, w), without those of no use."""
    samples, normalise = SegmentationSamples(data, Scale(model.short)), Normalisation.of(model.trunk)
    first = (samples[index] for index in range(min(n, len(data))))
    return [normalise(sample.pixels[None]) for sample in first if sample.pixels is not None]


def compare(data: SegmentationSet, index: int, models: Sequence[Segmenter]) -> tuple[str, list[Image.Image]]:
    """Return a caption and pictures of one image: one with its annotated mask, and one with the mask of each segmenter."""
    image, truth = report.image_with_mask(data, index)
    masks = [truth, *(predict(model, image) for model in models)]
    views = [drawing.draw_mask(image, mask, data.classes, side=drawing.SMALL) for mask in masks]
    return f"Classes of the pixels in {data.name(index)}.", views


@torch.inference_mode()
def predict(model: Segmenter, image: Image.Image, network: Callable[[Tensor], Tensor] | None = None) -> NDArray[np.uint8]:
    """Return the class, from 0, that a segmenter predicts for each pixel of an image of any mode, (H, W) in the image's size.

    The segmenter predicts in evaluation mode; its own mode does not change. `network`, such as `trickzoo.deploy` returns, computes the
    logits in its place.
    Raises BadData for an image of 32-bit integers or floating-point numbers, whose range is unknown, and NotFinite for logits that are not
    finite.
    """
    image = rgb(image)
    pixels = Scale(model.short).image(image)
    like = next(model.parameters())
    x = Normalisation.of(model.trunk)(pixels[None].to(like.device))
    with evaluating(model):
        logits = model(x.to(like.dtype)) if network is None else network(x)
    if not bool(logits.isfinite().all()):
        raise NotFinite(f"the network {NOT_FINITE}")
    return classes_of_pixels(logits, (image.height, image.width))[0].cpu().numpy()


def classes_of_pixels(logits: Tensor, size: tuple[int, int], *, at_once: int = AT_ONCE) -> Tensor:
    """Enlarge (N, K, h, w) logits to `size`, a height and width, and return the most likely class of each pixel, (N, *size) uint8.

    More than `at_once` enlarged logits are not computed together but in parts, with the same result to the last bit. A part is a group
    of the K classes, enlarged to the full width, and then a strip of columns of it, enlarged to the full height.
    """
    logits, (height, width) = logits.float(), size
    n, classes, h, _ = logits.shape
    if n * classes * height * width <= at_once:
        return _enlarged(logits, size).max(1).indices.byte()  # on a CPU several times as fast as argmax
    found = torch.zeros((n, height, width), dtype=torch.uint8, device=logits.device)
    group = min(max(at_once // (n * h * width), 1), classes)
    strip = max(at_once // (n * group * height), 1)
    highest = torch.full(found.shape, -torch.inf, device=logits.device) if group < classes else None
    for first in range(0, classes, group):
        wide = _enlarged(logits[:, first : first + group].contiguous(), (h, width))
        for left in range(0, width, strip):
            part = wide[..., left : left + strip].contiguous()
            most, which = _enlarged(part, (height, part.shape[3])).max(1)
            here = found[..., left : left + strip]
            if highest is None:
                here.copy_(which)
                continue
            before = highest[..., left : left + strip]
            here.copy_(torch.where(most > before, which.add_(first), here))
            torch.maximum(before, most, out=before)
    return found


def _enlarged(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
