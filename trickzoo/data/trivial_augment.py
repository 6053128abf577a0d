"""TrivialAugment (Müller and Hutter, arXiv 2103.10158), the wide form of torchvision's TrivialAugmentWide. Not in the paper."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

BINS = 31


def _shear(image: Tensor, x: float = 0.0, y: float = 0.0) -> Tensor:
    """Shear by degrees around the upper left corner; uncovered pixels are black."""
    return v2.affine(image, angle=0.0, translate=[0, 0], scale=1.0, shear=[x, y], center=[0.0, 0.0])


def _degrees(tangent: float) -> float:
    return float(torch.rad2deg(torch.atan(torch.tensor(tangent))))


Operation = Callable[[Tensor, float], Tensor]

OPERATIONS: tuple[tuple[Operation, float, bool], ...] = (
    (lambda image, m: image, 0.0, False),
    (lambda image, m: _shear(image, x=_degrees(m)), 0.99, True),
    (lambda image, m: _shear(image, y=_degrees(m)), 0.99, True),
    (lambda image, m: v2.affine(image, angle=0.0, translate=[int(m), 0], scale=1.0, shear=[0.0, 0.0]), 32.0, True),
    (lambda image, m: v2.affine(image, angle=0.0, translate=[0, int(m)], scale=1.0, shear=[0.0, 0.0]), 32.0, True),
    (lambda image, m: v2.rotate(image, m), 135.0, True),
    (lambda image, m: v2.adjust_brightness(image, 1 + m), 0.99, True),
    (lambda image, m: v2.adjust_saturation(image, 1 + m), 0.99, True),
    (lambda image, m: v2.adjust_contrast(image, 1 + m), 0.99, True),
    (lambda image, m: v2.adjust_sharpness(image, 1 + m), 0.99, True),
    (lambda image, m: v2.posterize(image, 8 - round(m)), 6.0, False),
    (lambda image, m: v2.solarize(image, 255.0 - m), 255.0, False),
    (lambda image, m: v2.autocontrast(image), 0.0, False),
    (lambda image, m: v2.equalize(image), 0.0, False),
)
"""The operations on a uint8 image. Each has its largest magnitude, and whether the magnitude may be negative."""


def trivial_augment(images: Tensor, draws: Tensor) -> Tensor:
    """Apply one random operation to each image: (n, 3, H, W) float in 0…255 and (n, 3) uniform draws → images of the same shape.

    The draws choose the operation, one of 31 magnitudes, and the sign. Images are rounded to whole values first, because the operations are
    defined on whole values.
    """
    rounded = images.clamp(0, 255).round().to(torch.uint8)
    changed = []
    for image, (which, strength, direction) in zip(rounded, draws.tolist(), strict=True):
        operation, largest, signed = OPERATIONS[int(which * len(OPERATIONS))]
        magnitude = largest * int(strength * BINS) / (BINS - 1)
        changed.append(operation(image, -magnitude if signed and direction <= 0.5 else magnitude))
    return torch.stack(changed).to(images)
