"""Evaluation transforms. Preprocessing is part of a weight: another resize filter alone can cost more than a point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from trickzoo.backbone import Backbone
from trickzoo.errors import BadOption
from trickzoo.weights.record import IMAGENET_MEAN, IMAGENET_STD, Preprocessing


def resize_and_crop(preprocessing: Preprocessing) -> Callable[[Image.Image], Tensor]:
    """PIL image → (3, size, size) uint8: the part of the preprocessing that works on one image at a time."""
    return v2.Compose(
        [
            v2.Resize(preprocessing.short_side, InterpolationMode(preprocessing.interpolation), antialias=True),
            v2.CenterCrop(preprocessing.size),
            v2.PILToTensor(),
        ]
    )


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """(…, 3, H, W) uint8 → float32 of the preprocessing's mean and deviation; on the device that the images are on."""
    mean = torch.tensor(preprocessing.mean, device=images.device).view(3, 1, 1)
    std = torch.tensor(preprocessing.std, device=images.device).view(3, 1, 1)
    return images.float().div_(255).sub_(mean).div_(std)


class _EvalTransform:
    """What `eval_transform` gives: a class, for worker processes that are sent it and for who prints it."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        self.to_uint8 = resize_and_crop(preprocessing)

    def __call__(self, image: Image.Image) -> Tensor:
        return normalise(self.to_uint8(image.convert("RGB")), self.preprocessing)

    def __repr__(self) -> str:
        return f"eval_transform({self.preprocessing})"


def eval_transform(source: Backbone | Preprocessing) -> Callable[[Image.Image], Tensor]:
    """PIL image → (3, size, size) float32, as the loaded weights of a model (or this preprocessing) need it.

    Raises BadOption if the model's weights do not say how to feed them.
    """
    if isinstance(source, Backbone):
        weights = source.weights
        if weights is None or weights.preprocessing is None:
            what = "has no weights" if weights is None else f"was loaded from {weights.name}, which does not say how to feed it"
            raise BadOption(f"{source.name} {what}; pass a Preprocessing instead")
        source = weights.preprocessing
    return _EvalTransform(source)


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
