"""Evaluation transforms. Preprocessing is part of a weight: another resize filter alone can cost more than a point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from trickzoo.backbone import Backbone
from trickzoo.data.images import rgb
from trickzoo.errors import BadOption
from trickzoo.weights.record import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

LONGEST = 16
"""An image of which one side is more than so many times the other is cut to that before it is resized: the crop keeps its middle alone."""


def resize_and_crop(preprocessing: Preprocessing) -> Callable[[Image.Image], Tensor]:
    """PIL image → (3, size, size) uint8, of grey (1, size, size): the part of the preprocessing that works on one image at a time."""
    return v2.Compose(
        [
            middle,
            v2.Resize(preprocessing.short_side, InterpolationMode(preprocessing.interpolation), antialias=True),
            v2.CenterCrop(preprocessing.size),
            v2.PILToTensor(),
        ]
    )


def middle(image: Image.Image) -> Image.Image:
    """The image, or the middle of one that is more than `LONGEST` times as long as it is wide: resized, it would have any size."""
    limit = LONGEST * min(image.size)
    across, down = (max(side - limit, 0) // 2 for side in image.size)
    return image.crop((across, down, image.width - across, image.height - down)) if across or down else image


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """(…, 3, H, W) uint8 → float32 of the preprocessing's mean and deviation; on the device that the images are on.

    Grey images, (…, 1, H, W), take the means over the three channels of both.
    """
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    if images.shape[-3] == 1:
        mean, std = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
    return images.float().div_(255).sub_(mean).div_(std)


class _EvalTransform:
    """What `eval_transform` gives: a class, for worker processes that are sent it and for who prints it."""

    def __init__(self, preprocessing: Preprocessing, channels: int) -> None:
        self.preprocessing = preprocessing
        self.channels = channels
        self.to_uint8 = resize_and_crop(preprocessing)

    def __call__(self, image: Image.Image) -> Tensor:
        coloured = rgb(image)
        return normalise(self.to_uint8(coloured.convert("L") if self.channels == 1 else coloured), self.preprocessing)

    def __repr__(self) -> str:
        return f"eval_transform({self.preprocessing})"


def eval_transform(source: Backbone | Preprocessing) -> Callable[[Image.Image], Tensor]:
    """PIL image of any mode → (3, size, size) float32, as the loaded weights of a model (or this preprocessing) need it.

    For a model of one input channel images become grey, (1, size, size). An EXIF orientation is not looked at:
    `PIL.ImageOps.exif_transpose` turns an image upright.

    Raises BadOption if the model's weights do not say how to feed them, or if it has neither one nor three input channels. The transform
    raises BadData for an image of 32-bit integers or floating-point numbers, whose range is unknown.
    """
    channels = 3
    if isinstance(source, Backbone):
        weights = source.weights
        if weights is None or weights.preprocessing is None:
            what = "has no weights" if weights is None else f"was loaded from {weights.name}, which does not say how to feed it"
            raise BadOption(f"{source.name} {what}; pass a Preprocessing instead")
        channels = source.in_chans
        if channels not in (1, 3):
            raise BadOption(f"{source.name} has {channels} input channels, and images have 1 or 3; prepare its input yourself")
        source = weights.preprocessing
    return _EvalTransform(source, channels)


@dataclass(frozen=True)
class Normalisation:
    """What is subtracted and divided by, RGB, for images in 0…1: what a network's weights state, else ImageNet's."""

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @classmethod
    def of(cls, model: nn.Module | None) -> Normalisation:
        """The normalisation that a network was trained with."""
        stated = model.weights.preprocessing if isinstance(model, Backbone) and model.weights else None
        return cls(stated.mean, stated.std) if stated else cls()

    def __call__(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) in 0…255 → a network's input."""
        return ((images.float() - 255 * _column(self.mean, images)) / (255 * _column(self.std, images))).contiguous(
            memory_format=torch.channels_last
        )

    def towards(self, other: Normalisation, images: Tensor) -> Tensor:
        """Images of one normalisation as another's. Mixed images are mixed alike."""
        if self == other:
            return images
        return (images * _column(self.std, images) + _column(self.mean, images) - _column(other.mean, images)) / _column(other.std, images)


def _column(values: tuple[float, float, float], images: Tensor) -> Tensor:
    return torch.tensor(values, device=images.device).view(3, 1, 1)
