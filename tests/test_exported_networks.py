"""Networks with their preprocessing inside compute what the evaluation computes with Pillow and torchvision, to the last pixel."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from tests.deployment import photograph, random_detector, random_segmenter
from trickzoo import detection, segmentation
from trickzoo.data.annotated_transforms import FitAndFlip, Scale
from trickzoo.data.objects import Objects
from trickzoo.data.transforms import eval_transform
from trickzoo.deployment.networks import Preparation, WholeDetector, WholeSegmenter, _fitted
from trickzoo.deployment.resizing import resize
from trickzoo.weights.record import Interpolation, Preprocessing

FILTERS: dict[Interpolation, Image.Resampling] = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize(
    ("before", "after"), [((64, 48), (32, 24)), ((97, 61), (23, 40)), ((30, 40), (45, 60)), ((640, 427), (219, 146)), ((7, 5), (7, 30))]
)
def test_resizing_gives_the_pixels_of_both_libraries(before: tuple[int, int], after: tuple[int, int], interpolation: Interpolation) -> None:
    image, (width, height) = photograph(*before), after
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    pillow = np.asarray(image.resize(after, FILTERS[interpolation]))
    found = resize(pixels, height, width, interpolation=interpolation, arithmetic="pillow")
    np.testing.assert_array_equal(found.permute(1, 2, 0), pillow)
    by_torch = F.interpolate(pixels[None], (height, width), mode=interpolation, antialias=True)[0]
    torch.testing.assert_close(resize(pixels, height, width, interpolation=interpolation), by_torch.float(), rtol=0, atol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(80, 60), (61, 47), (47, 62), (400, 9), (6, 300), (32, 32), (94, 189), (90, 300)])
def test_a_classifier_prepares_whole_images_as_the_evaluation_does(size: tuple[int, int], channels: int) -> None:
    preprocessing = Preprocessing(size=32, crop=0.875, interpolation="bicubic")
    whole = Preparation(channels, preprocessing, "image")
    image = photograph(*size)
    expected = eval_transform(preprocessing, channels=channels)(image)
    torch.testing.assert_close(whole(torch.from_numpy(np.array(image))[None])[0], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("short", "long"), [(64, 96), (600, 1000)])
def test_detectors_and_segmenters_resize_as_the_evaluation_does(short: int, long: int) -> None:
    for size in ((61, 47), (100, 30), (33, 33), (1, 1), (50, 40), (501, 400), (333, 500)):  # 501 × 600 / 400 is 751.5
        image = photograph(*size)
        found = _fitted(torch.from_numpy(np.array(image)), short, long)
        expected, _, _ = FitAndFlip(short, long)(image, Objects.of(()))
        torch.testing.assert_close(found, expected.float(), rtol=0, atol=0)
        found = _fitted(torch.from_numpy(np.array(image)), short, Scale.LONGEST * short)
        torch.testing.assert_close(found, Scale(short).image(image).float(), rtol=0, atol=0)


@pytest.mark.parametrize("neck", ["fpn", "c4"])
@pytest.mark.parametrize("size", [(61, 47), (160, 120), (30, 90)])
def test_a_whole_detector_finds_the_boxes_of_the_evaluation(size: tuple[int, int], neck: Literal["fpn", "c4"]) -> None:
    model, image = random_detector(neck), photograph(*size)
    expected = detection.predict(model, image)
    whole = WholeDetector(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in whole.modules())  # torch.export refuses them, as a slow test shows
    with torch.inference_mode():
        boxes, scores, labels = whole(torch.from_numpy(np.array(image)))
    assert len(expected.scores) > 5
    np.testing.assert_allclose(boxes, expected.boxes, atol=1e-3)
    np.testing.assert_allclose(scores, expected.scores, atol=1e-5)
    np.testing.assert_array_equal(labels + 1, expected.labels)


@pytest.mark.parametrize(("short", "align_corners"), [(64, False), (None, False), (64, True)])
def test_a_whole_segmenter_finds_the_classes_of_the_evaluation(short: int | None, align_corners: bool) -> None:
    model, image = random_segmenter(short, align_corners), photograph(205, 161)
    with torch.inference_mode():
        found = WholeSegmenter(model)(torch.from_numpy(np.array(image)))
    expected = segmentation.predict(model, image)
    assert len(np.unique(expected)) > 1 and found.dtype == torch.uint8
    np.testing.assert_array_equal(found, expected)
