"""The classes of pixels that a segmenter sees: in one image, and in a set, with its figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from trickzoo.data.annotated_transforms import Scale, SegmentationSamples
from trickzoo.data.loaders import read_share, there
from trickzoo.data.masks import SegmentationSet
from trickzoo.data.transforms import Normalisation
from trickzoo.segmentation.metrics import ConfusionMatrix
from trickzoo.segmentation.model import FCN


def figures(found: ConfusionMatrix) -> dict[str, Any]:
    """The evaluation's summary under the names of result files."""
    summary = found.summary()
    return {name: summary[name] for name in ("miou", "pixel_accuracy", "per_class")}


@torch.inference_mode()
def segment(
    net: nn.Module,
    data: SegmentationSet,
    transform: Scale,
    normalise: Normalisation,
    accelerator: Accelerator,
    *,
    workers: int = 0,
    keep: Callable[[int, Tensor], None] = lambda index, found: None,
) -> ConfusionMatrix:
    """Every pixel of a set as a network classifies it, in the masks' sizes, each process on its share of the images.

    `keep` is called with the index of each image of this process and the (H, W) classes of its pixels.
    """
    net.eval()
    found = ConfusionMatrix(data.classes)
    for sample in read_share(SegmentationSamples(data, transform), accelerator, len(data), workers):
        mask = there(sample.mask).to(accelerator.device)
        with accelerator.autocast():
            logits = net(normalise(there(sample.pixels)[None].to(accelerator.device)))
        classes = classes_of_pixels(logits, (int(mask.shape[0]), int(mask.shape[1])))[0]
        found.add(classes, mask)
        keep(sample.index, classes)
    found.gather()
    return found


@torch.inference_mode()
def predict(model: FCN, image: Image.Image) -> NDArray[np.uint8]:
    """The class of each pixel of an RGB image as an FCN from `load` sees it, (H, W) in the image's size."""
    assert model.recipe is not None
    pixels, _ = Scale(model.recipe.short)(image, np.zeros((image.height, image.width), np.uint8))
    logits = model.eval()(Normalisation.of(model.backbone)(pixels[None].to(next(model.parameters()).device)))
    return classes_of_pixels(logits, (image.height, image.width))[0].byte().cpu().numpy()


def classes_of_pixels(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, K, h, w) logits → (N, *size) classes; the logits are brought to the size, not the classes."""
    return F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False).argmax(1)
