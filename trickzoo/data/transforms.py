"""Evaluation transforms of classification, and normalisation.

Each weight is evaluated with its own preprocessing, because another resize filter alone can change top-1 by more than a point.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from trickzoo.backbone import Backbone, kind_in_words
from trickzoo.data.images import rgb
from trickzoo.errors import BadOption
from trickzoo.weights.record import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
"""Pillow's filters by the names that a preprocessing has for them."""
LONGEST = 16
"""The largest ratio of an image's sides. A longer image is cut to its middle before it is resized; the centre crop uses no more."""


def resize_and_crop(preprocessing: Preprocessing, channels: int = 3) -> Callable[[Image.Image], Tensor]:
    """Return the resizing and centre crop of a preprocessing, for PIL images in RGB.

    It turns an image into (channels, size, size) uint8. With one channel, the image becomes grey before it is resized.
    """
    return v2.Compose(
        [
            *([_grey] if channels == 1 else []),
            middle,
            functools.partial(_resize, short=preprocessing.short_side, resample=FILTERS[preprocessing.interpolation]),
            v2.CenterCrop(preprocessing.size),
            v2.PILToTensor(),
        ]
    )


def _grey(image: Image.Image) -> Image.Image:
    return image.convert("L")


def _resize(image: Image.Image, *, short: int, resample: Image.Resampling) -> Image.Image:
    """Return the image, antialiased, with a short side of this many pixels; the long side is rounded down, as by torchvision.

    It is resized across first, and then down. Pillow always did so before version 13, which goes down first if an image is more than twice
    as high as wide: as each pass rounds to whole numbers, the pixels would depend on the version, and differ from those of exported files.
    """
    width, height = (short * side // min(image.size) for side in image.size)
    return image.resize((width, image.height), resample).resize((width, height), resample)


def middle(image: Image.Image) -> Image.Image:
    """Return the image, cut to its middle if one side is more than `LONGEST` times the other.

    Resizing the short side of a long and narrow image would otherwise take any amount of memory.
    """
    limit = LONGEST * min(image.size)
    across, down = (max(side - limit, 0) // 2 for side in image.size)
    return image.crop((across, down, image.width - across, image.height - down)) if across or down else image


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Normalise (…, 3, H, W) uint8 images to float32 with the preprocessing's mean and standard deviation, on the images' device.

    Grey images, (…, 1, H, W), are normalised with the mean of both values over the three channels.
    """
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    if images.shape[-3] == 1:
        mean, std = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
    return images.float().div_(255).sub_(mean).div_(std)


class _EvalTransform:
    """The transform that `eval_transform` returns. It is a class so that it can be pickled for worker processes and has a readable repr."""

    def __init__(self, preprocessing: Preprocessing, channels: int) -> None:
        self.preprocessing = preprocessing
        self.to_uint8 = resize_and_crop(preprocessing, channels)

    def __call__(self, image: Image.Image) -> Tensor:
        return normalise(self.to_uint8(rgb(image)), self.preprocessing)

    def __repr__(self) -> str:
        return f"eval_transform({self.preprocessing})"


def eval_transform(source: Backbone | Preprocessing, *, channels: int = 3) -> Callable[[Image.Image], Tensor]:
    """Return the evaluation transform of a model's loaded weights, or of a preprocessing and a number of `channels`, 1 or 3.

    The transform turns a PIL image of any mode into (3, size, size) float32, or into (1, size, size) for a model of one input channel. It
    ignores EXIF orientations: `PIL.ImageOps.exif_transpose` turns an image upright. It raises BadData for an image of 32-bit integers or
    floating-point numbers, whose range is unknown.

    Raises BadOption if the model has no weights, if these state no preprocessing, or if it has neither one nor three input channels, and if
    `source` is neither a model nor a preprocessing.
    """
    if isinstance(source, Backbone):
        weights = source.weights
        if weights is None or weights.preprocessing is None:
            what = "has no weights" if weights is None else f"was loaded from {weights.name}, which does not state its preprocessing"
            raise BadOption(f"{source.name} {what}; pass a Preprocessing instead")
        channels, source = input_channels(source), weights.preprocessing
    elif not isinstance(source, Preprocessing):
        raise BadOption(f"eval_transform takes a model of trickzoo or a Preprocessing, not {kind_in_words(source)}")
    elif channels not in (1, 3):
        raise BadOption(f"eval_transform: channels must be 1 or 3, not {channels}")
    return _EvalTransform(source, channels)


def input_channels(model: Backbone) -> int:
    """Return the number of a model's input channels, 1 or 3. Raises BadOption for another number."""
    if model.in_chans not in (1, 3):
        raise BadOption(f"{model.name} has {model.in_chans} input channels, and images have 1 or 3; prepare its input yourself")
    return model.in_chans


@dataclass(frozen=True)
class Normalisation:
    """The RGB mean and standard deviation that images in 0…1 are normalised with; by default ImageNet's."""

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @classmethod
    def of(cls, model: nn.Module | None) -> Normalisation:
        """Return the normalisation that a network's weights state, or ImageNet's if they state none."""
        stated = model.weights.preprocessing if isinstance(model, Backbone) and model.weights else None
        return cls(stated.mean, stated.std) if stated else cls()

    @property
    def largest(self) -> float:
        """The largest absolute value that an image has after the normalisation."""
        return max(max(mean, 1 - mean) / std for mean, std in zip(self.mean, self.std, strict=True))

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise (n, 3, H, W) images in 0…255 to float32 in the channels-last memory format, as the network's input."""
        centred = images.float() - 255 * _column(self.mean, images)
        return centred.div_(255 * _column(self.std, images)).contiguous(memory_format=torch.channels_last)

    def towards(self, other: Normalisation, images: Tensor) -> Tensor:
        """Convert images with this normalisation to another. As this is linear, it may be done to images that mixup has mixed."""
        if self == other:
            return images
        return (images * _column(self.std, images) + _column(self.mean, images) - _column(other.mean, images)) / _column(other.std, images)


def _column(values: tuple[float, float, float], images: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=images.device).view(3, 1, 1)
