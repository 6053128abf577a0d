"""Parts of trainings and evaluations on a CPU, against the operations of torchvision and torch on the same tensors.

The maps and the boxes are those of a training step of Faster R-CNN on two images, as in the comparison `transfer`, the crops those of a
batch of Imagenette's images that are decoded once, as in `training`, and the logits those of an image of CamVid, as in `annotated`. The
results are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import MultiScaleRoIAlign, roi_align

from benchmarks.speed.harness import Comparison
from trickzoo.backbone import FeatureInfo
from trickzoo.data.augment import crop_and_resize, crop_boxes
from trickzoo.detection.pooling import RoIAlign
from trickzoo.recipes.recipe import Augmentation
from trickzoo.segmentation.evaluate import classes_of_pixels

WHAT = "RoIAlign of a detector, the crops of a training and the classes of pixels, on tensors in memory"
IMAGES, HEIGHT, WIDTH, CHANNELS, ROIS, CELLS = 2, 128, 192, 256, 512, 7
"""Number of images, their padded sides in pixels, channels of the maps, RoIs of each image, and the side of the output in cells."""
BATCH, SIDE, CROP = 64, 128, 64
"""Number of images, their side in pixels, and that of their crops."""
CLASSES, OUTPUT, MASK = 11, (128, 171), (360, 480)
"""Number of classes, and height and width of the logits and of the mask."""


def comparisons() -> Iterator[Comparison]:
    """Yield the three comparisons."""
    yield _rois()
    yield _crops()
    yield _pixels()


def _rois() -> Comparison:
    torch.manual_seed(0)
    levels = [FeatureInfo(str(stride), CHANNELS, stride) for stride in (4, 8, 16, 32)]
    maps = {each.name: torch.randn(IMAGES, CHANNELS, HEIGHT // each.stride, WIDTH // each.stride, requires_grad=True) for each in levels}
    corners = torch.rand(IMAGES, ROIS, 2) * torch.tensor([WIDTH, HEIGHT]) * 0.8
    boxes = list(torch.cat([corners, corners + torch.rand(IMAGES, ROIS, 2) * HEIGHT / 2], 2))
    weights = torch.randn(IMAGES * ROIS, CHANNELS, CELLS, CELLS)
    ours, theirs = RoIAlign(levels, CELLS), MultiScaleRoIAlign([each.name for each in levels], CELLS, sampling_ratio=2)

    def gradients(pool: MultiScaleRoIAlign) -> tuple[Tensor, ...]:
        return torch.autograd.grad(pool(maps, boxes, [(HEIGHT, WIDTH)] * IMAGES), list(maps.values()), weights, allow_unused=True)

    pairs = zip(gradients(ours), gradients(theirs), strict=True)
    difference = max(float((one - other).abs().max()) for one, other in pairs if other is not None)
    variants: dict[str, Callable[[], object]] = {"trickzoo": lambda: gradients(ours), "torchvision": lambda: gradients(theirs)}
    what = f"RoIAlign, forward and backward, {IMAGES * ROIS:,} RoIs, {CHANNELS} channels"
    return Comparison(what, variants, facts={"largest_difference": difference})


def _crops() -> Comparison:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (BATCH, 3, SIDE, SIDE), dtype=torch.uint8)
    side = torch.full((BATCH,), SIDE)
    boxes = crop_boxes(torch.rand(BATCH, 64), side, side, Augmentation())
    rois = torch.cat([torch.arange(BATCH)[:, None], boxes], 1)
    variants: dict[str, Callable[[], Tensor]] = {
        "trickzoo": lambda: crop_and_resize(images, boxes, CROP),
        "torchvision": lambda: roi_align(images.float(), rois, CROP, aligned=True),
    }
    ours, theirs = (crop() for crop in variants.values())
    facts = {"largest_difference": float((ours - theirs).abs().max())}
    return Comparison(f"random crops of {SIDE} × {SIDE} pixels, resized to {CROP} × {CROP}", variants, BATCH, facts)


def _pixels() -> Comparison:
    torch.manual_seed(0)
    logits = torch.randn(1, CLASSES, *OUTPUT)
    variants: dict[str, Callable[[], Tensor]] = {
        "trickzoo": lambda: classes_of_pixels(logits, MASK),
        "torch": lambda: F.interpolate(logits, MASK, mode="bilinear", align_corners=False).argmax(1).byte(),
    }
    ours, theirs = (find() for find in variants.values())
    facts = {"different_pixels": int((ours != theirs).sum())}
    return Comparison(f"logits of {CLASSES} classes to a mask of {MASK[0]} × {MASK[1]} pixels", variants, 1, facts)
