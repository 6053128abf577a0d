"""`trickzoo.train_transform`: the augmentation of a recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import trickzoo
from trickzoo.errors import BadData, BadOption, UnknownName
from trickzoo.recipes.recipe import Augmentation, Recipe
from trickzoo.weights.record import Preprocessing


def test_the_training_transform_is_the_recipes_augmentation() -> None:
    plain = Augmentation(area=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.0, jitter=0.0, pca=0.0)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    still = trickzoo.train_transform(Recipe("r", "resnet18", "x", size=40, augmentation=plain), mean=(0.5,) * 3, std=(0.25,) * 3)
    expected = (torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 - 0.5) / 0.25
    torch.testing.assert_close(still(image), expected)
    mirrored = Recipe("r", "resnet18", "x", size=40, augmentation=replace(plain, flip=1.0))
    flipped = trickzoo.train_transform(mirrored, mean=(0.5,) * 3, std=(0.25,) * 3)
    torch.testing.assert_close(flipped(image), expected.flip(2))
    usual = trickzoo.train_transform(Recipe("r", "resnet18", "x", size=24))
    torch.manual_seed(1)
    first, second = usual(image.convert("P")), usual(image.convert("P"))
    assert first.shape == (3, 24, 24) and not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(usual(image.convert("P")), first)


def test_a_training_transform_is_found_by_the_name_of_its_recipe() -> None:
    assert trickzoo.train_transform("own.finetune")(Image.new("L", (30, 20))).shape == (3, 224, 224)
    assert trickzoo.train_transform("own.finetune", size=128)(Image.new("L", (30, 20))).shape == (3, 128, 128)
    with pytest.raises(BadOption, match="size must be 1 or more, not 0"):
        trickzoo.train_transform("own.finetune", size=0)
    with pytest.raises(UnknownName, match=r"own\.finetune"):
        trickzoo.train_transform("own.finetun")
    for values in ((123.7, 116.3, 103.5), (0.5, 0.5), 0.5, (0.5, 0.5, float("nan"))):
        with pytest.raises(BadOption, match="std must be three numbers"):
            trickzoo.train_transform("own.finetune", std=values)  # type: ignore[arg-type]
    with pytest.raises(BadData, match="the image has no pixels: it is 0 × 4"):
        trickzoo.train_transform("own.finetune")(Image.new("RGB", (0, 4)))
    for given in (trickzoo.train_transform, trickzoo.eval_transform):
        with pytest.raises(BadOption, match=r"_transform takes .*, not int"):
            given(3)


def test_images_of_a_training_are_normalised_as_those_of_the_evaluation(trained: Path) -> None:
    """The model's weights state the mean and the standard deviation of both."""
    model = trickzoo.create("mobilenet_v1_025", num_classes=2)
    half = Preprocessing(size=32, mean=(0.5,) * 3, std=(0.25,) * 3)
    trickzoo.export(model, trained / "half.safetensors", classes=("a", "b"), preprocessing=half)
    model = trickzoo.create(trained / "half.safetensors")
    plain = Augmentation(area=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.0, jitter=0.0, pca=0.0)
    recipe = Recipe("r", "mobilenet_v1_025", "x", size=32, augmentation=plain)
    image = Image.new("RGB", (32, 32), (10, 100, 200))
    torch.testing.assert_close(trickzoo.train_transform(recipe, model)(image), trickzoo.eval_transform(model)(image))
    with pytest.raises(BadOption, match="takes a model of trickzoo, not Linear; pass its mean and std"):
        trickzoo.train_transform(recipe, torch.nn.Linear(1, 1))  # type: ignore[arg-type]


def test_a_model_of_one_input_channel_gets_grey_images(trained: Path) -> None:
    """As `eval_transform` makes them. The augmentation of colours changes them too."""
    model = trickzoo.create("mobilenet_v1_025", num_classes=2, in_chans=1)
    trickzoo.export(model, trained / "grey.safetensors", classes=("a", "b"), preprocessing=Preprocessing(size=32, crop=1.0))
    model = trickzoo.create(trained / "grey.safetensors", in_chans=1)
    plain = Augmentation(area=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.0, jitter=0.0, pca=0.0)
    recipe = Recipe("r", "mobilenet_v1_025", "x", size=32, augmentation=plain)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    still = trickzoo.train_transform(recipe, model)(image)
    assert still.shape == (1, 32, 32)
    torch.testing.assert_close(still, trickzoo.eval_transform(model)(image))
    torch.testing.assert_close(still, trickzoo.train_transform(recipe, model)(image.convert("L")))
    stated = trickzoo.train_transform(recipe, model, mean=(0.0, 0.0, 0.3), std=(0.25, 0.25, 1.0))(image)
    torch.testing.assert_close(stated[0], (torch.from_numpy(np.array(image.convert("L"))) / 255 - 0.1) / 0.5)
    usual = trickzoo.train_transform("paper.resnet50_d.mixup", model, size=32)
    first, second = usual(image), usual(image)
    assert first.shape == (1, 32, 32) and not torch.equal(first, second)
    assert model.train()(torch.stack([first, second])).shape == (2, 2)
    with pytest.raises(BadOption, match="mobilenet_v1_025 has 4 input channels, and images have 1 or 3"):
        trickzoo.train_transform(recipe, trickzoo.create("mobilenet_v1_025", in_chans=4))
