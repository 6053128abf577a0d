"""Detectors and segmenters are evaluated in the pixels of the image files, whatever size the networks take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from tests.annotated import lists, voc, xml
from trickzoo import detection, segmentation
from trickzoo.data.annotated_transforms import FitAndFlip, Scale
from trickzoo.data.location import AnnotatedLocation
from trickzoo.data.transforms import Normalisation


class Oracle(torch.nn.Module):
    """A detector that returns given boxes, scaled to the size of its input."""

    def __init__(self, found: list[list[list[float]]], short: int) -> None:
        super().__init__()
        self.found, self.short, self.calls = found, short, 0
        self.weight = torch.nn.Parameter(torch.zeros(1))  # states the type of the input
        self.rpn, self.roi_heads = torch.nn.Module(), torch.nn.Module()
        self.rpn.head, self.roi_heads.box_predictor = torch.nn.Identity(), torch.nn.Identity()

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        (image,) = images
        assert min(image.shape[-2:]) == self.short
        assert 0 <= image.min() <= image.max() <= 1
        boxes = torch.tensor(self.found[self.calls]).reshape(-1, 4) * torch.tensor([image.shape[2] / 40, image.shape[1] / 30] * 2)
        self.calls += 1
        return [{"boxes": boxes, "scores": torch.ones(len(boxes)), "labels": torch.ones(len(boxes), dtype=torch.int64)}]


def test_boxes_are_evaluated_in_pixels_of_the_image_file(tmp_path: Path) -> None:
    places = [[[3.0, 4, 21, 28]], [[10.0, 2, 30, 20], [1.0, 1, 9, 9]]]
    annotations = {f"{i}": xml([("cat", [x0 + 1, y0 + 1, x1, y1]) for x0, y0, x1, y1 in boxes]) for i, boxes in enumerate(places)}
    data = AnnotatedLocation("voc", voc(tmp_path / "own", annotations)).open("detection", "train")
    for short in (30, 75):
        found = detection.evaluate.detect(Oracle(places, short), data, FitAndFlip(short, 200), Accelerator(cpu=True))
        metrics = detection.evaluate.metrics(found)
        assert (metrics["voc_ap50"], metrics["coco_ap"]) == (100, pytest.approx(100))
    shifted = [[[x0 + 10, y0, x1 + 10, y1] for x0, y0, x1, y1 in boxes] for boxes in places]
    found = detection.evaluate.detect(Oracle(shifted, 30), data, FitAndFlip(30, 60), Accelerator(cpu=True))
    assert detection.evaluate.metrics(found)["voc_ap50"] < 50


def test_masks_are_evaluated_at_the_size_of_the_image_file(tmp_path: Path) -> None:
    truth = np.zeros((30, 40), np.uint8)
    truth[:, 20:], truth[0] = 1, 2
    data = AnnotatedLocation("lists", lists(tmp_path, [truth])).open("segmentation", "train")

    def oracle(images: torch.Tensor) -> torch.Tensor:
        assert images.shape == (1, 3, 15, 20)
        return torch.stack([torch.arange(20) < 10, torch.arange(20) >= 10]).float()[None, :, None].expand(1, 2, 15, 20)

    net = torch.nn.Module()
    net.forward = oracle  # type: ignore[method-assign]
    found = segmentation.evaluate.segment(net, data, Scale(15), Normalisation(), Accelerator(cpu=True))
    assert found.counts.sum() == 29 * 40  # the first row has the value 2, which is unlabelled and not evaluated
    assert found.summary()["miou"] == 100
