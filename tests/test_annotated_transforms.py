"""Transforms of annotated images: boxes and masks go where their image goes, and the same draws give the same sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.annotated import boxes_of, lists, voc, xml
from trickzoo.data.annotated_transforms import (
    DetectionSamples,
    FitAndFlip,
    Scale,
    ScaleAndCrop,
    SegmentationSamples,
    fit,
    to_file,
)
from trickzoo.data.boxes import DetectionSet
from trickzoo.data.objects import Annotation, Objects
from trickzoo.data.readers.mask_lists import open_lists
from trickzoo.data.readers.voc import open_voc
from trickzoo.data.workers import in_workers
from trickzoo.errors import BadOption

NO_FLIP, FLIP = torch.tensor([0.9]), torch.tensor([0.1])


def objects(*boxes: tuple[float, float, float, float]) -> Objects:
    return Objects.of([Annotation(box, label) for label, box in enumerate(boxes, 1)])


# ---------------------------------------------------------------------------------------------------------------------
# detection


@pytest.mark.parametrize(
    ("size", "limits", "wanted"),
    [
        ((500, 375), (600, 1000), (800, 600)),
        ((375, 500), (600, 1000), (600, 800)),
        ((1000, 300), (600, 1000), (1000, 300)),
        ((640, 427), (800, 1333), (1199, 800)),
        ((3000, 2), (600, 1000), (1000, 1)),
        ((333, 333), (600, 1000), (600, 600)),
    ],
)
def test_short_side_within_the_long_side(size, limits, wanted):
    assert fit(*size, *limits) == wanted


@settings(deadline=None)
@given(
    width=st.integers(20, 90),
    height=st.integers(20, 90),
    corner=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)),
    flipped=st.booleans(),
    short=st.integers(30, 70),
)
def test_boxes_stay_on_their_object(width, height, corner, flipped, short):
    x0, y0 = int(corner[0] * width), int(corner[1] * height)
    x1, y1 = x0 + max(width // 3, 4), y0 + max(height // 3, 4)
    image = np.zeros((height, width, 3), np.uint8)
    image[y0:y1, x0:x1] = 255
    pixels, boxes, labels = FitAndFlip(short, 100)(Image.fromarray(image), objects((x0, y0, x1, y1)), FLIP if flipped else NO_FLIP)
    assert pixels.dtype == torch.uint8 and boxes.dtype == torch.float32 and labels.tolist() == [1]
    assert type(boxes) is torch.Tensor
    # the light of the object, as a fraction of its bounds' middle and extent
    light = pixels[0].double() / 255
    rows, columns = light.amax(1), light.amax(0)
    assert columns.sum() == pytest.approx(float(boxes[0, 2] - boxes[0, 0]), abs=0.6)
    assert rows.sum() == pytest.approx(float(boxes[0, 3] - boxes[0, 1]), abs=0.6)
    for profile, low, high in ((columns, boxes[0, 0], boxes[0, 2]), (rows, boxes[0, 1], boxes[0, 3])):
        middle = (profile * (torch.arange(len(profile)) + 0.5)).sum() / profile.sum()
        assert float(middle) == pytest.approx(float(low + high) / 2, abs=0.5)


def test_evaluation_does_not_flip_and_boxes_return_to_pixels_of_the_file():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (37, 53, 3), dtype=np.uint8))
    truth = objects((3, 4, 30, 30), (0, 0, 53, 37))
    plain, boxes, _ = FitAndFlip(74, 200)(image, truth)
    assert torch.equal(plain, FitAndFlip(74, 200)(image, truth, NO_FLIP)[0])
    assert torch.equal(plain.flip(2), FitAndFlip(74, 200)(image, truth, FLIP)[0])
    assert boxes.tolist() == [[6, 8, 60, 60], [0, 0, 106, 74]]
    assert np.allclose(to_file(boxes, plain, image.size), truth.boxes)


def test_what_trains_and_what_is_clipped():
    annotations = [
        Annotation((1, 1, 9, 9), 1),
        Annotation((1, 1, 9, 9), 2, difficult=True),
        Annotation((1, 1, 9, 9), 3, crowd=True),
        Annotation((-3, 30, 12, 55), 4),
        Annotation((40 - 1e-9, 1, 41, 9), 5),  # float32 leaves nothing of it inside
    ]
    image = Image.new("RGB", (40, 40))
    _, boxes, labels = FitAndFlip(40, 40)(image, Objects.of(annotations))
    assert labels.tolist() == [1, 4]
    assert boxes.tolist() == [[1, 1, 9, 9], [0, 30, 12, 40]]
    _, boxes, labels = FitAndFlip(40, 40)(image, Objects.of([]), FLIP)
    assert boxes.shape == (0, 4) and labels.shape == (0,) and labels.dtype == torch.int64


def test_impossible_sides():
    with pytest.raises(BadOption, match="a short side of 1000 and a long side of 600"):
        FitAndFlip(1000, 600)


def test_detection_samples_in_workers(tmp_path: Path):
    folder = voc(tmp_path / "VOC2012", {"a": xml([("cat", (1, 1, 20, 15))]), "b": xml(), "c": xml()})
    data = open_voc(folder)
    (folder / "JPEGImages" / "c.jpg").write_bytes(b"no image")
    samples = DetectionSamples(data, FitAndFlip(60, 100))
    keys = [[(0, FLIP), (1, NO_FLIP)], [(2, FLIP)]]
    (first, second), (third,) = in_workers(samples, iter(keys), 1)
    assert first.boxes is not None and first.boxes.tolist() == [[40, 0, 80, 30]]
    assert first.pixels is not None and first.pixels.shape == (3, 60, 80) and first.size == (40, 30)
    assert second.boxes is not None and second.boxes.shape == (0, 4)
    assert third.pixels is None and "c.jpg is not a readable image" in third.error
    assert len(samples) == 3
    evaluated = samples[0]
    assert evaluated.boxes is not None and evaluated.boxes.tolist() == [[0, 0, 40, 30]]


def test_a_set_for_training_and_for_the_metric():
    data: DetectionSet = boxes_of([[Annotation((1, 1, 9, 9), 1, crowd=True)]], 1)
    assert len(data.objects_of(0)) == 1 and not data.objects_of(0).plain.any()


# ---------------------------------------------------------------------------------------------------------------------
# segmentation

DRAWS = st.lists(st.floats(0, 1, exclude_max=True, width=32), min_size=6, max_size=6)


def chequered(width: int, height: int) -> tuple[Image.Image, np.ndarray]:
    """An image that is its mask: classes 0 and 1 in fields of 10 pixels, black (but not quite) and white."""
    y, x = np.mgrid[:height, :width]
    mask = ((x // 10 + y // 10) % 2).astype(np.uint8)
    return Image.fromarray((25 + 230 * mask)[..., None].repeat(3, 2).astype(np.uint8)), mask


@settings(deadline=None)
@given(draws=DRAWS, width=st.integers(30, 90), height=st.integers(30, 90))
def test_masks_stay_on_their_image(draws, width, height):
    transform = ScaleAndCrop(base=120, crop=64, blur=0)
    pixels, mask = transform(*chequered(width, height), torch.tensor(draws))
    assert pixels.shape == (3, 64, 64) and mask.shape == (64, 64) and type(mask) is torch.Tensor
    outside = mask == 255
    assert (pixels[:, outside] == 0).all() and (pixels[:, ~outside] > 0).all()
    # what is missing lies on the right and below
    inside_rows, inside_columns = (~outside).any(1).sum(), (~outside).any(0).sum()
    assert not outside[:inside_rows, :inside_columns].any()
    certain = ~outside & ((pixels[0] < 60) | (pixels[0] > 220))
    assert ((pixels[0] > 128) == (mask == 1))[certain].all()
    assert ((pixels[0] > 140) == (mask == 1))[~outside].float().mean() > 0.9


def test_the_mask_is_scaled_about_the_same_points_as_the_image():
    half = np.zeros((64, 64), np.uint8)
    half[:, 32:] = 1
    image = Image.fromarray((255 * half)[..., None].repeat(3, 2))
    for side in (16, 32, 54, 128):
        pixels, mask = ScaleAndCrop(side, side, scale=(1, 1), flip=0, blur=0)(image, half, torch.zeros(6))
        assert torch.equal(pixels[0] > 127, mask == 1)
        assert (mask[:, : side // 2] == 0).all() and (mask[:, side // 2 :] == 1).all()


def test_sizes_and_places_over_their_whole_range():
    image, mask = chequered(60, 30)
    transform = ScaleAndCrop(base=100, crop=40, blur=0)
    below_one = 1 - 2**-24
    small = transform(image, mask, torch.tensor([0.9, 0, 0, 0, 0, 0]))[1]
    assert (small != 255).sum() == 40 * 25  # a long side of 50, of which 40 are kept
    # the last crop of the largest image ends at its edge
    huge = transform(image, mask, torch.tensor([0.9, below_one, below_one, below_one, 0, 0]))[1]
    whole = Scale(100)(image, mask)[0]
    assert whole.shape == (3, 100, 200)
    assert (huge != 255).all()
    rows, columns = (((np.arange(n) + 0.5) * 0.3).astype(int) for n in (100, 200))
    assert np.array_equal(huge.numpy(), mask[np.ix_(rows, columns)][-40:, -40:])


def test_flip_blur_and_draws():
    image, mask = chequered(60, 60)
    transform = ScaleAndCrop(base=60, crop=40, scale=(1, 1))
    still = torch.tensor([0.9, 0, 0, 0, 0.9, 0])
    pixels, classes = transform(image, mask, still)
    assert torch.equal(classes, torch.from_numpy(mask[:40, :40]))
    flipped, mirrored = transform(image, mask, torch.tensor([0.1, 0, 0, 0, 0.9, 0]))
    assert torch.equal(mirrored, torch.from_numpy(mask[:, ::-1][:40, :40].copy()))
    assert not torch.equal(flipped, pixels)
    blurred, same = transform(image, mask, torch.tensor([0.9, 0, 0, 0, 0.1, 0.8]))
    assert torch.equal(same, classes) and not torch.equal(blurred, pixels)
    assert blurred.float().mean() == pytest.approx(float(pixels.float().mean()), rel=0.02)
    unblurred, _ = transform(image, mask, torch.tensor([0.9, 0, 0, 0, 0.1, 0]))
    assert torch.equal(unblurred, pixels)


def test_the_whole_image_in_evaluation_keeps_the_files_mask():
    image, mask = chequered(61, 47)
    pixels, classes = Scale(94)(image, mask)
    assert pixels.shape == (3, 94, 122) and torch.equal(classes, torch.from_numpy(mask))
    assert Scale(None)(image, mask)[0].shape == (3, 47, 61)


def test_segmentation_samples(tmp_path: Path):
    data = open_lists(lists(tmp_path, [1, 7]))
    samples = SegmentationSamples(data, ScaleAndCrop(base=40, crop=32))
    draws = torch.rand(6, generator=torch.Generator().manual_seed(0))
    (first, again), (other,) = in_workers(samples, iter([[(0, draws), (0, draws)], [(1, draws)]]), 1)
    assert first.pixels is not None and again.pixels is not None and torch.equal(first.pixels, again.pixels)
    assert first.mask is not None and first.mask.shape == (32, 32)
    assert other.pixels is None and "1.png has the value 7" in other.error
    assert SegmentationSamples(data, Scale())[0].error == "" and len(samples) == 2
