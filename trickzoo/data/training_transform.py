"""The training transform of a classifier's recipe, one image at a time, for training loops of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from trickzoo.backbone import Backbone, kind_in_words
from trickzoo.data.augment import DRAWS, LUMA, augment, crop_boxes
from trickzoo.data.images import rgb
from trickzoo.data.transforms import Normalisation, input_channels
from trickzoo.errors import BadOption
from trickzoo.recipes.collection import find
from trickzoo.recipes.recipe import Recipe


class _TrainTransform:
    """The transform that `train_transform` returns, a class so that it can be pickled for worker processes."""

    def __init__(self, recipe: Recipe, normalisation: Normalisation, channels: int) -> None:
        self.recipe, self.normalisation, self.channels = recipe, normalisation, channels

    def __call__(self, image: Image.Image) -> Tensor:
        draws, augmentation, size = torch.rand(1, DRAWS), self.recipe.augmentation, self.recipe.size
        coloured = rgb(image) if self.channels == 3 else rgb(image).convert("L").convert("RGB")  # for the augmentation of colours
        width, height = (torch.tensor([side]) for side in coloured.size)
        left, top, right, bottom = crop_boxes(draws, width, height, augmentation).int()[0].tolist()
        crop = coloured.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, right, bottom), reducing_gap=3.0)
        (prepared,) = self.normalisation(augment(pil_to_tensor(crop)[None].float(), draws, augmentation))
        return prepared if self.channels == 3 else (prepared * prepared.new_tensor(LUMA).view(3, 1, 1)).sum(0, keepdim=True)

    def __repr__(self) -> str:
        return f"train_transform({self.recipe.name}, size={self.recipe.size})"


def train_transform(
    recipe: Recipe | str,
    model: Backbone | None = None,
    *,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Callable[[Image.Image], Tensor]:
    """Return the random crop, augmentation and normalisation of a recipe, such as "paper.resnet50_d.mixup".

    The transform turns a PIL image of any mode into (3, size, size) float32, or into (1, size, size) for a model of one input channel, as
    `eval_transform(model)` does. Grey images are normalised with the mean of the three values of mean and standard deviation. It draws from
    torch's global generator, which PyTorch's `DataLoader` seeds in each worker. Mixup, CutMix and label smoothing act on batches and are
    not part of it.

    Args:
        recipe: the recipe of a classifier, or its name.
        model: the network that is trained. Images are normalised as its weights state, as in `eval_transform(model)`.
        size: side of the image in pixels; by default the recipe's `size`, even if the recipe has a `start_size`.
        mean: RGB mean of the normalisation, in 0…1; by default that of the model's weights, or ImageNet's.
        std: RGB standard deviation of the normalisation, in 0…1, with the same default.

    Raises UnknownName if there is no recipe of that name, and BadOption if it is not for a classifier, if the model is not of trickzoo
    or has neither one nor three input channels, if the size is not positive, or if mean or standard deviation are not three values in 0…1.
    """
    if isinstance(recipe, str):
        recipe = find(recipe)
    elif not isinstance(recipe, Recipe):
        raise BadOption(f"train_transform takes the recipe of a classifier or its name, not {type(recipe).__name__}")
    if model is not None and not isinstance(model, Backbone):
        raise BadOption(f"train_transform takes a model of trickzoo, not {kind_in_words(model, '; pass its mean and std instead')}")
    if size is not None:
        recipe = replace(recipe, size=size)
    stated, channels = Normalisation.of(model), 3 if model is None else input_channels(model)
    centre = stated.mean if mean is None else _three("mean", mean, 0)
    spread = stated.std if std is None else _three("std", std, 0.001)
    if channels == 1:
        centre, spread = (sum(centre) / 3,) * 3, (sum(spread) / 3,) * 3
    return _TrainTransform(recipe, Normalisation(centre, spread), channels)


def _three(name: str, values: Sequence[float], least: float) -> tuple[float, float, float]:
    try:
        red, green, blue = map(float, values)
    except (TypeError, ValueError):
        raise BadOption(f"{name} must be three numbers, one for each channel, not {values}") from None
    if not all(least <= value <= 1 for value in (red, green, blue)):
        raise BadOption(f"{name} must be three numbers from {least:g} to 1, not {values}; divide those of pixels in 0…255 by 255")
    return red, green, blue
