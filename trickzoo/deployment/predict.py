"""Prediction by exported files, as by the networks that they were made from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from trickzoo.data.transforms import normalise, resize_and_crop
from trickzoo.deployment.description import Description
from trickzoo.deployment.opened import Exported
from trickzoo.detection.metrics import NamedDetections


def preparation(description: Description) -> Callable[[Image.Image], NDArray[Any]]:
    """Return a function from an RGB image to what a file with this description takes, without the dimension of the batch."""
    kind, preprocessing = description.input, description.preprocessing
    if kind == "image":
        return np.asarray
    assert preprocessing is not None
    resized = resize_and_crop(preprocessing)

    def prepare(image: Image.Image) -> NDArray[Any]:
        pixels = resized(image.convert("L") if description.channels == 1 else image)
        if kind == "normalised":
            pixels = normalise(pixels, preprocessing)
        elif kind == "float":
            pixels = pixels.float() / 255
        return pixels.numpy()

    return prepare


def classify(network: Exported, given: NDArray[Any]) -> Tensor:
    """Return the (classes,) logits that a classifier's file computes for an image that `preparation` has prepared."""
    (logits,) = network.run(given[None])
    return torch.from_numpy(logits[0])


def detect(network: Exported, image: Image.Image) -> NamedDetections:
    """Return the boxes that a detector's file finds in an RGB image, as `detection.predict` does; the labels begin at 1."""
    boxes, scores, labels = network.run(np.asarray(image))
    found = NamedDetections(boxes.astype(np.float64), scores, labels + 1)
    found.names = tuple(network.description.classes[label] for label in labels.tolist())
    return found


def segment(network: Exported, image: Image.Image) -> NDArray[np.uint8]:
    """Return the class that a segmenter's file finds for each pixel of an RGB image, (H, W)."""
    (classes,) = network.run(np.asarray(image))
    return classes.astype(np.uint8)
