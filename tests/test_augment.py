"""The paper's augmentation against torchvision and formulas computed another way."""

from __future__ import annotations

import colorsys
import math
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, norm
from torch.nn import functional as F
from torchvision.ops import roi_align
from torchvision.transforms import RandomErasing, RandomResizedCrop, autoaugment

from trickzoo.data.augment import CROP, DRAWS, PCA_VALUES, PCA_VECTORS, augment, crop_and_resize, crop_boxes, erase
from trickzoo.data.trivial_augment import BINS, OPERATIONS, trivial_augment
from trickzoo.recipes.recipe import Augmentation

PAPER = Augmentation()
NOTHING = Augmentation(flip=0.0, jitter=0.0, pca=0.0)


def uniform(n: int) -> torch.Tensor:
    return torch.rand(n, DRAWS)


@pytest.mark.parametrize(("width", "height"), [(500, 375), (64, 64), (90, 300), (7, 5)])
def test_crops_are_distributed_as_torchvisions(width: int, height: int) -> None:
    n = 3000
    boxes = crop_boxes(uniform(n), torch.full((n,), width), torch.full((n,), height), PAPER)
    x0, y0, x1, y1 = boxes.unbind(1)
    assert bool(((x0 >= 0) & (y0 >= 0) & (x1 <= width) & (y1 <= height) & (x1 > x0) & (y1 > y0)).all())
    assert torch.equal(boxes, boxes.round())
    image = torch.empty(3, height, width)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(n)])
    ours = torch.stack([y0, x0, y1 - y0, x1 - x0], 1).numpy()
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-4


def test_an_image_in_which_nothing_fits_gives_the_largest_centred_crop() -> None:
    boxes = crop_boxes(uniform(4), torch.tensor([400, 10, 400, 10]), torch.tensor([10, 400, 10, 400]), Augmentation(area=(0.9, 1.0)))
    assert boxes[0].tolist() == [193.0, 0.0, 206.0, 10.0]
    assert boxes[1].tolist() == [0.0, 193.0, 10.0, 206.0]


def test_the_same_draws_give_the_same_crop_in_any_batch() -> None:
    draws = uniform(6)
    size = torch.full((6,), 100)
    together = crop_boxes(draws, size, size, PAPER)
    alone = torch.cat([crop_boxes(draws[i : i + 1], size[:1], size[:1], PAPER) for i in range(6)])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("box", [(0, 0, 48, 48), (8, 4, 40, 36), (3, 8, 11, 16)])
def test_crops_are_averaged_when_they_shrink_and_interpolated_when_they_grow(box: tuple[int, int, int, int]) -> None:
    pixels = torch.randint(0, 255, (1, 3, 48, 48), dtype=torch.uint8)
    x0, y0, x1, y1 = box
    crop = pixels[:, :, y0:y1, x0:x1].float()
    ours = crop_and_resize(pixels, torch.tensor([box]).float(), 16)
    if x1 - x0 > 16:
        torch.testing.assert_close(ours, F.avg_pool2d(crop, (x1 - x0) // 16), atol=1e-3, rtol=0)
    else:
        inner = (..., slice(1, -1), slice(1, -1))  # at its rim a crop sees the pixels beside it
        torch.testing.assert_close(ours[inner], F.interpolate(crop, size=16, mode="bilinear")[inner], atol=1e-3, rtol=0)


@pytest.mark.parametrize("size", [8, 31, 64])
def test_crops_equal_torchvisions_roi_align(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """For boxes of every size up to the whole image, whether few images or all are resized together."""
    pixels, height, width = torch.randint(0, 255, (9, 3, 40, 56), dtype=torch.uint8), torch.full((9,), 40), torch.full((9,), 56)
    boxes = crop_boxes(uniform(9), width, height, PAPER)
    boxes[0] = torch.tensor([0, 0, 56, 40])
    expected = roi_align(pixels.float(), torch.cat([torch.arange(9)[:, None], boxes], 1), size, aligned=True)
    torch.testing.assert_close(crop_and_resize(pixels, boxes, size), expected, atol=1e-3, rtol=0)
    monkeypatch.setattr("trickzoo.data.augment.VALUES", 4 * pixels[0].numel())
    torch.testing.assert_close(crop_and_resize(pixels, boxes, size), expected, atol=1e-3, rtol=0)


def test_a_batch_may_be_empty_and_a_box_without_area() -> None:
    assert crop_and_resize(torch.zeros(0, 3, 8, 9, dtype=torch.uint8), torch.zeros(0, 4), 4).shape == (0, 3, 4, 4)
    pixels = torch.randint(0, 256, (2, 3, 8, 9))
    points = crop_and_resize(pixels, torch.full((2, 4), 3.5), 4)
    assert torch.equal(points, pixels[:, :, 3:4, 3:4].expand(2, 3, 4, 4).float())


def test_crop_of_the_same_size_is_the_image() -> None:
    pixels = torch.randint(0, 255, (2, 3, 16, 16), dtype=torch.uint8)
    torch.testing.assert_close(crop_and_resize(pixels, torch.tensor([[0.0, 0, 16, 16]] * 2), 16), pixels.float(), atol=1e-3, rtol=0)


def test_an_augmentation_without_operations_changes_nothing() -> None:
    images = 255 * torch.rand(4, 3, 8, 8)
    assert torch.equal(augment(images, uniform(4), NOTHING), images)


def test_half_of_the_images_are_flipped_each_whole() -> None:
    images = 255 * torch.rand(400, 3, 4, 4)
    out = augment(images, uniform(400), Augmentation(jitter=0.0, pca=0.0))
    flipped = (out == images.flip(3)).flatten(1).all(1)
    assert bool((flipped | (out == images).flatten(1).all(1)).all())
    assert 0.4 < float(flipped.float().mean()) < 0.6


def test_jitter_is_brightness_then_saturation_then_contrast() -> None:
    images = 255 * torch.rand(5, 3, 6, 6)
    draws = uniform(5)
    out = augment(images, draws, Augmentation(flip=0.0, pca=0.0, jitter_third="contrast"))
    for image, row, found in zip(images, draws, out, strict=True):
        brightness, saturation, contrast = (0.6 + 0.8 * row[CROP + 1 : CROP + 4]).tolist()
        expected = brightness * image
        grey = (expected * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0, keepdim=True)
        expected = saturation * expected + (1 - saturation) * grey
        mean = (expected * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0).mean()
        torch.testing.assert_close(found, contrast * expected + (1 - contrast) * mean, atol=1e-2, rtol=1e-4)


def test_hue_turns_chroma_and_keeps_luma() -> None:
    images = 255 * torch.rand(6, 3, 5, 5)
    draws = torch.full((6, DRAWS), 0.5)
    draws[:, CROP + 3] = torch.linspace(0.01, 0.99, 6)
    out = augment(images, draws, Augmentation(flip=0.0, pca=0.0))
    for image, row, found in zip(images, draws, out, strict=True):
        angle = (0.8 * float(row[CROP + 3]) - 0.4) * math.pi
        for pixel, turned in ((image[:, 2, 3], found[:, 2, 3]), (image[:, 0, 0], found[:, 0, 0])):
            y, i, q = colorsys.rgb_to_yiq(*pixel.tolist())
            wanted = (y, math.cos(angle) * i - math.sin(angle) * q, math.sin(angle) * i + math.cos(angle) * q)
            assert colorsys.rgb_to_yiq(*turned.tolist()) == pytest.approx(wanted, abs=3)  # colorsys rounds its coefficients


@pytest.mark.parametrize("third", ["hue", "contrast"])
def test_pca_noise_is_added_to_jittered_colours(third: Literal["hue", "contrast"]) -> None:
    images, draws = 255 * torch.rand(6, 3, 5, 4), uniform(6)
    jittered = augment(images, draws, Augmentation(pca=0.0, jitter_third=third))
    noise = augment(torch.zeros_like(images), draws, Augmentation(flip=0.0, jitter=0.0))
    assert noise.abs().max() > 1
    torch.testing.assert_close(augment(images, draws, Augmentation(jitter_third=third)), jittered + noise, atol=1e-3, rtol=0)


def test_hue_is_turned_after_brightness_and_saturation() -> None:
    images, draws = 255 * torch.rand(6, 3, 5, 4), uniform(6)
    only_hue = draws.clone()
    only_hue[:, CROP + 1 : CROP + 3] = 0.5
    scaled = draws.clone()
    scaled[:, CROP + 3] = 0.5
    plain = Augmentation(flip=0.0, pca=0.0)
    torch.testing.assert_close(augment(images, draws, plain), augment(augment(images, scaled, plain), only_hue, plain), atol=1e-3, rtol=0)


def test_pca_noise_lies_along_imagenets_principal_colours() -> None:
    images = torch.zeros(20_000, 3, 1, 1)
    shift = augment(images, uniform(20_000), Augmentation(flip=0.0, jitter=0.0)).flatten(1).double().numpy()
    vectors, values = np.array(PCA_VECTORS), np.array(PCA_VALUES)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-3)
    along = shift @ vectors
    np.testing.assert_allclose(along.std(0), 0.1 * values, rtol=0.05)
    assert abs(np.corrcoef(along.T) - np.eye(3)).max() < 0.05
    quantiles = np.quantile(along[:, 0] / (0.1 * values[0]), [0.05, 0.25, 0.75, 0.95])
    np.testing.assert_allclose(quantiles, norm.ppf([0.05, 0.25, 0.75, 0.95]), atol=0.05)


@pytest.mark.parametrize("direction", [0.2, 0.8])
@pytest.mark.parametrize("level", [0, 7, 20, 30])
def test_trivial_augment_does_what_torchvisions_does(level: int, direction: float) -> None:
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 48, 40), np.uint8))
    space = autoaugment.TrivialAugmentWide()._augmentation_space(BINS)
    for i, (name, (magnitudes, signed)) in enumerate(space.items()):
        magnitude = float(magnitudes[level]) if magnitudes.ndim else 0.0
        if signed and direction <= 0.5:
            magnitude *= -1
        theirs = autoaugment._apply_op(image, name, magnitude, autoaugment.InterpolationMode.NEAREST, None)
        draws = torch.tensor([[(i + 0.5) / len(space), (level + 0.5) / BINS, direction]])
        ours = trivial_augment(image[None].float(), draws)[0]
        assert (ours - theirs.float()).abs().max() <= 1, name  # its newer functions round where the older ones cut off
    assert len(space) == len(OPERATIONS)


def test_erased_rectangles_are_distributed_as_torchvisions() -> None:
    n, size = 2000, 32
    erased = erase(torch.full((n, 3, size, size), -1.0), uniform(n)[:, -1 - CROP :], 1.0)
    mask = erased[:, 0] != -1
    torch.testing.assert_close(erased.amax((0, 2, 3)), 255 * torch.tensor([0.485, 0.456, 0.406]))
    ours = np.stack([mask.any(2).sum(1).numpy(), mask.any(1).sum(1).numpy(), mask.any(2).int().argmax(1), mask.any(1).int().argmax(1)], 1)
    image = torch.empty(3, size, size)
    drawn = [RandomErasing.get_params(image, (0.02, 1 / 3), (0.3, 10 / 3), [0.0]) for _ in range(n)]
    theirs = np.array([(h, w, top, left) for top, left, h, w, _ in drawn])
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-4
    untouched = erase(torch.full((n, 3, size, size), -1.0), uniform(n)[:, -1 - CROP :], 0.25)
    assert 0.2 < (untouched != -1).flatten(1).any(1).float().mean() < 0.3
