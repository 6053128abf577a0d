"""Antialiased resizing as products of matrices, which every engine computes alike.

Engines differ in their own resizing: some ignore that an ONNX node asks for antialiasing, and none rounds as Pillow does. Here each output
pixel is a weighted sum of input pixels, first along the rows, then along the columns, and both sums are rounded to whole numbers, with
weights in the fixed-point numbers of Pillow (`src/libImaging/Resample.c`) or of torch
(`aten/src/ATen/native/cpu/UpSampleKernelAVXAntialias.h`). The sums are exact, so the pixels are those of the two libraries. (Pillow goes
along the columns first in images that are more than twice as high as wide, from version 13 on; `data.transforms` never does.)
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor

from trickzoo.weights.record import Interpolation

Arithmetic = Literal["pillow", "torch"]
PILLOW_BITS = 22
"""Binary digits after the point of Pillow's weights. Torch's weights have 16 bits altogether, and as many after the point as fit."""
SPLIT = 2.0**11
"""Weights are split into a multiple of this and a rest. The sums of both parts are exact in float32, and thus on every engine."""


def resize(
    images: Tensor,
    height: int,
    width: int,
    *,
    interpolation: Interpolation = "bilinear",
    arithmetic: Arithmetic = "torch",
    rows: Tensor | None = None,
    columns: Tensor | None = None,
) -> Tensor:
    """Resize (…, H, W) uint8 images with antialiasing, and return the result as whole float32 numbers from 0 to 255.

    Args:
        images: the images.
        height, width: the new size.
        interpolation: filter of the resizing.
        arithmetic: "pillow" computes as `PIL.Image.resize` does, "torch" as `torch.nn.functional.interpolate` does for uint8.
        rows, columns: (h,) and (w,) int64, which rows and columns of the resized images to return; by default all.
    """
    rows = torch.arange(height) if rows is None else rows
    columns = torch.arange(width) if columns is None else columns
    across = _weights(images.shape[-1], width, columns, interpolation, arithmetic)
    down = _weights(images.shape[-2], height, rows, interpolation, arithmetic)
    return _sums(_sums(images.float(), *across).transpose(-1, -2), *down).transpose(-1, -2)


def _weights(size: int, new: int, places: Tensor, interpolation: Interpolation, arithmetic: Arithmetic) -> tuple[Tensor, Tensor]:
    """Return (k, size) fixed-point weights of the input pixels for the output pixels at the (k,) places, and the number that means 1."""
    pixels, centres = 2 * torch.arange(size) + 1, 2 * places + 1  # twice the positions, so that all differences are exact
    distance: Tensor = (pixels * new - centres[:, None] * size).double() / (2 * larger(size, new))
    weights = (_triangle if interpolation == "bilinear" else _cubic)(distance.abs())
    weights = weights / weights.sum(1, keepdim=True)
    if arithmetic == "pillow":
        one = torch.full((), 2.0**PILLOW_BITS, dtype=torch.float64)
    else:
        fits = (weights.max() * 2.0 ** torch.arange(1, 23) + 0.5).floor() < 2**15
        one = torch.exp2(fits.sum().double())
    return weights.sign() * (weights.abs() * one + 0.5).floor(), one


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance).clamp(min=0)


def _cubic(distance: Tensor) -> Tensor:
    """Return Keys' cubic with a = -0.5, which both libraries use when they antialias."""
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))


def _sums(images: Tensor, weights: Tensor, one: Tensor) -> Tensor:
    """Return the (…, k) weighted sums of (…, size) whole numbers, rounded half up to whole numbers from 0 to 255."""
    high = (weights / SPLIT).floor()
    parts = images @ torch.cat([high, weights - high * SPLIT]).float().T
    count = weights.shape[0]
    sums = parts[..., :count].double() * SPLIT + parts[..., count:].double()
    return (sums / one + 0.5).floor().clamp(0, 255).float()


def larger(one: int, other: int) -> int:
    """Return the larger of two sides, in a graph of torch.export for every image and not only for the example."""
    return cast(int, torch.sym_max(one, other))


def smaller(one: int, other: int) -> int:
    """Return the smaller of two sides, as `larger` does the larger."""
    return cast(int, torch.sym_min(one, other))
