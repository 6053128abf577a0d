"""Corrupts images as they are read, by the common corruptions of Hendrycks and Dietterich (arXiv 1903.12261).

The settings of each severity are those of the authors' program that made ImageNet-C. Two things differ: `frost` is left out, because it
needs photographs of frost, and the images are not saved as JPEG with quality 85 afterwards, as those of ImageNet-C are.

The random numbers follow from the pixels, the kind and the severity, so an image is always corrupted in the same way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trickzoo.data.corruption_functions import (
    Pixels,
    brightness,
    contrast,
    defocus_blur,
    elastic_transform,
    fog,
    gaussian_noise,
    glass_blur,
    impulse_noise,
    jpeg_compression,
    motion_blur,
    pixelate,
    shot_noise,
    snow,
    zoom_blur,
)
from trickzoo.data.corruption_names import Corruption


@dataclass(frozen=True)
class Corrupted:
    """A transform that returns (1 + C, 3, side, side): an image after another transform, and it with each of C corruptions."""

    transform: Callable[[Image.Image], Tensor]
    corruptions: Sequence[Corruption]

    def __call__(self, image: Image.Image) -> Tensor:
        """Return the transformed image, and its corrupted copies."""
        clean = self.transform(image)
        pixels = clean.permute(1, 2, 0).contiguous().numpy()
        copies = [torch.from_numpy(corrupt(pixels, corruption)).permute(2, 0, 1) for corruption in self.corruptions]
        return torch.stack([clean, *copies])


def corrupt(pixels: Pixels, corruption: Corruption) -> Pixels:
    """Return a corrupted copy of a (side, side, 3) image."""
    digest = hashlib.sha256(f"{corruption.kind} {corruption.severity} ".encode() + pixels.tobytes()).digest()
    random = np.random.default_rng(int.from_bytes(digest, "little"))
    function, settings = FUNCTIONS[corruption.kind]
    setting = settings[corruption.severity - 1]
    return function(pixels, random, *(setting if isinstance(setting, tuple) else (setting,)))


FUNCTIONS: dict[str, tuple[Callable[..., Pixels], Sequence[Any]]] = {
    "gaussian_noise": (gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": (shot_noise, (60, 25, 12, 5, 3)),
    "impulse_noise": (impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27)),
    "defocus_blur": (defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))),
    "glass_blur": (glass_blur, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))),
    "motion_blur": (motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    "zoom_blur": (zoom_blur, ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))),
    "snow": (
        snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "fog": (fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    "brightness": (brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": (contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "elastic_transform": (
        elastic_transform,
        (  # the authors' program has 244, and not 224
            (244 * 2, 244 * 0.7, 244 * 0.1),
            (244 * 2, 244 * 0.08, 244 * 0.2),
            (244 * 0.05, 244 * 0.01, 244 * 0.02),
            (244 * 0.07, 244 * 0.01, 244 * 0.02),
            (244 * 0.12, 244 * 0.01, 244 * 0.02),
        ),
    ),
    "pixelate": (pixelate, (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg_compression": (jpeg_compression, (25, 18, 15, 10, 7)),
}
"""The function of each kind, and its settings at the five severities."""
