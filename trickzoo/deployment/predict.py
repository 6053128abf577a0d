"""Prediction by exported files, as by the networks that they were made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
from trickzoo.weights import manifest
from trickzoo.weights.loaded import LoadedWeights
from trickzoo.weights.record import Preprocessing


def preparation(description: Description) -> Callable[[Image.Image], NDArray[Any]]:
    """Return a function from an RGB image to what a file with this description takes, without the dimension of the batch."""
    pixels = pixels_of(description)
    return lambda image: _input_of(description, pixels(image))


def pixels_of(description: Description) -> Callable[[Image.Image], Tensor]:
    """Return a function from an RGB image to uint8 pixels, resized and cropped as far as a file with this description does not do it.

    They are of the shape (C, size, size), or (H, W, 3) of the whole image. The function can be pickled.
    """
    if description.input == "image":
        return _whole
    assert description.preprocessing is not None
    return resize_and_crop(description.preprocessing, description.channels)


def _whole(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image))


def _input_of(description: Description, pixels: Tensor) -> NDArray[Any]:
    """Return the input of a file for uint8 pixels, with or without the dimension of the batch."""
    if description.input == "normalised":
        assert description.preprocessing is not None
        pixels = normalise(pixels, description.preprocessing)
    elif description.input == "float":
        pixels = pixels.float() / 255
    return pixels.numpy()


def weights_of(network: Exported) -> LoadedWeights:
    """Return what is known of the weights in a file. Their path and digest are those of the file."""
    description = network.description
    return LoadedWeights(
        str(network.path),
        network.path,
        network.sha256,
        description.classes,
        description.preprocessing,
        manifest.records().get(description.weights),
        training={"data_digest": description.data_digest},
    )


@dataclass(frozen=True)
class ExportedClassifier:
    """A classifier's file, as `trickzoo.classification.evaluate.FileClassifier` says."""

    file: Exported

    @property
    def name(self) -> str:
        """The architecture."""
        return self.file.description.model

    @property
    def weights(self) -> LoadedWeights:
        """What is known of the weights."""
        return weights_of(self.file)

    @property
    def preprocessing(self) -> Preprocessing:
        """How images are prepared, inside the file or outside."""
        assert self.file.description.preprocessing is not None
        return self.file.description.preprocessing

    @property
    def in_chans(self) -> int:
        """The number of channels of its images: 3, or 1 if it takes grey images."""
        return self.file.description.channels

    @property
    def transform(self) -> Callable[[Image.Image], Tensor]:
        """What `pixels_of` returns."""
        return pixels_of(self.file.description)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the (n, classes) logits of (n, …) pixels."""
        (logits,) = self.file.run(_input_of(self.file.description, pixels))
        return torch.from_numpy(logits)


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
