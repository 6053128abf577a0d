"""Transforms that move boxes or masks with their image, and the samples of detection and segmentation.

Randomness comes in as uniform draws, one row an image (`DRAWS` of each transform): the same row gives the same sample, whatever batch,
process or order it comes in. Without draws a transform does only what evaluation does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from trickzoo.data.boxes import DetectionSet, Objects
from trickzoo.data.masks import IGNORE, SegmentationSet
from trickzoo.errors import BadData, BadOption

BLUR_KERNEL = 7
"""Pixels; a deviation below 1 has no weight to speak of beyond."""


def fit(width: int, height: int, short: int, long: float = math.inf) -> tuple[int, int]:
    """Width and height with the short side at `short`, or less if the long side would pass `long`; the aspect stays."""
    scale = min(short / min(width, height), long / max(width, height))
    return max(round(width * scale), 1), max(round(height * scale), 1)


# ---------------------------------------------------------------------------------------------------------------------
# detection


def check_sides(short: int, long: int) -> None:
    """Raise BadOption unless 0 < short ≤ long."""
    if not 0 < short <= long:
        raise BadOption(f"a short side of {short} and a long side of {long}: the short one must be above 0 and not the longer")


@dataclass(frozen=True)
class FitAndFlip:
    """Detection: resize to a short side, within a long side; flip half of the images. Sides in pixels.

    The defaults are the released recipe's for VOC; for COCO it has 800 and 1333.
    """

    short: int = 600
    long: int = 1000
    flip: float = 0.5
    DRAWS: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_sides(self.short, self.long)

    def __call__(self, image: Image.Image, objects: Objects, draws: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """An RGB image and its objects → (3, h, w) uint8, (k, 4) float32 boxes in its pixels, clipped to it, and (k,) labels.

        Crowd and difficult objects are left out: a loss has no use for them.
        """
        plain = objects.take(objects.plain)
        pixels = functional.pil_to_tensor(image)
        boxes = tv_tensors.BoundingBoxes(torch.from_numpy(plain.boxes).float(), format="XYXY", canvas_size=pixels.shape[-2:])
        width, height = fit(image.width, image.height, self.short, self.long)
        pixels = functional.resize(pixels, [height, width], InterpolationMode.BILINEAR, antialias=True)
        boxes = functional.clamp_bounding_boxes(functional.resize(functional.clamp_bounding_boxes(boxes), [height, width]))
        if draws is not None and float(draws[0]) < self.flip:
            pixels, boxes = functional.horizontal_flip(pixels), functional.horizontal_flip(boxes)
        corners = boxes.as_subclass(Tensor)
        some = (corners[:, 2:] > corners[:, :2]).all(1)  # float32 may leave nothing of a sliver, and detectors refuse such a box
        return pixels, corners[some], torch.from_numpy(plain.labels)[some]


@dataclass(frozen=True)
class DetectionSample:
    """An image as a worker hands it over; `pixels` is None and `error` says why if it cannot be used.

    Attributes:
        pixels: (3, h, w) uint8.
        boxes, labels: (k, 4) float32 in pixels of `pixels`, and (k,) from 1; of the objects that train.
        size: width and height in the file.
    """

    index: int
    pixels: Tensor | None = None
    boxes: Tensor | None = None
    labels: Tensor | None = None
    size: tuple[int, int] = (0, 0)
    error: str = ""


@dataclass
class DetectionSamples(Dataset[DetectionSample]):
    """The images of a set by index, for evaluation, or by (index, draws), for training. Errors are handed over, not raised."""

    data: DetectionSet
    transform: FitAndFlip

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: int | tuple[int, Tensor]) -> DetectionSample:
        index, draws = (key, None) if isinstance(key, int) else key
        try:
            image = self.data.read(index)
        except BadData as error:
            return DetectionSample(index, error=str(error))
        objects, (*_, width, height) = self.data.objects_of(index), self.data.images[index]
        if image.size != (width, height):  # one that is too large to be used whole
            objects = objects.scaled(image.width / width, image.height / height)
        return DetectionSample(index, *self.transform(image, objects, draws), (width, height))


def to_file(boxes: Tensor, pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """(k, 4) boxes found in `pixels` (3, h, w) → the same in an image of `size`, the width and height in the file."""
    height, width = pixels.shape[-2:]
    scale = torch.tensor([size[0] / width, size[1] / height] * 2, dtype=torch.float64, device=boxes.device)
    return boxes.double() * scale


# ---------------------------------------------------------------------------------------------------------------------
# segmentation


@dataclass(frozen=True)
class ScaleAndCrop:
    """Segmentation in training: random size, place, flip and blur, as the released script has it (gluoncv/data/segbase.py).

    Attributes:
        base: the long side becomes a whole number of pixels between base × `scale[0]` and base × `scale[1]`.
        crop: side of the square that is cut out; what is missing on the right and below is black, and ignored in the mask.
        flip, blur: probabilities; the blur's deviation is U[0, 1) pixels.
    """

    base: int = 520
    crop: int = 480
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    blur: float = 0.5
    DRAWS: ClassVar[int] = 6

    def __call__(self, image: Image.Image, mask: NDArray[np.uint8], draws: Tensor) -> tuple[Tensor, Tensor]:
        """An RGB image, its (H, W) mask and (6,) draws → (3, crop, crop) and (crop, crop), both uint8."""
        flip, size, right, down, blur, radius = draws.tolist()
        shortest, longest = (int(self.base * factor) for factor in self.scale)
        side = shortest + int(size * (longest - shortest + 1))
        width, height = fit(image.width, image.height, side, side)
        # as an image, for the exact mode: masks are resized by the plain "nearest", which lies up to half a pixel beside the image
        resized = functional.resize(torch.from_numpy(mask)[None], [height, width], InterpolationMode.NEAREST_EXACT)
        pixels, classes = _resize(image, width, height), tv_tensors.Mask(resized)
        if flip < self.flip:
            pixels, classes = functional.horizontal_flip(pixels), functional.horizontal_flip(classes)
        missing = [0, 0, max(self.crop - width, 0), max(self.crop - height, 0)]
        pixels, classes = functional.pad(pixels, missing, fill=0), functional.pad(classes, missing, fill=IGNORE)
        top = int(down * (max(height, self.crop) - self.crop + 1))
        left = int(right * (max(width, self.crop) - self.crop + 1))
        pixels, classes = (functional.crop(each, top, left, self.crop, self.crop) for each in (pixels, classes))
        if blur < self.blur:
            pixels = functional.gaussian_blur(pixels, [BLUR_KERNEL, BLUR_KERNEL], [max(radius, 0.01)] * 2)
        return pixels, classes.as_subclass(Tensor)[0]


@dataclass(frozen=True)
class Scale:
    """Segmentation in evaluation, one scale.

    Attributes:
        short: short side of the image in pixels; None leaves it. It is less where the long side would pass `LONGEST` times as many, and
            without a short side where the image has more than `MOST` pixels: a thin or large image would take any amount of memory.
    """

    short: int | None = 480
    LONGEST: ClassVar[int] = 4
    MOST: ClassVar[int] = 2**22

    def __call__(self, image: Image.Image, mask: NDArray[np.uint8], draws: None = None) -> tuple[Tensor, Tensor]:
        """An RGB image and its (H, W) mask → (3, h, w) and the mask, both uint8.

        The mask keeps the file's size: predictions are to be brought to it, so that every pixel of the file is judged.
        """
        return self.image(image), torch.from_numpy(mask)

    def image(self, image: Image.Image) -> Tensor:
        """An RGB image → (3, h, w) uint8."""
        if self.short:
            width, height = fit(image.width, image.height, self.short, self.LONGEST * self.short)
        else:
            least, most = sorted(image.size)
            width, height = fit(image.width, image.height, least, min(most, math.sqrt(self.MOST * most / least)))
        return _resize(image, width, height)


def _resize(image: Image.Image, width: int, height: int) -> Tensor:
    return functional.resize(functional.pil_to_tensor(image), [height, width], InterpolationMode.BILINEAR, antialias=True)


@dataclass(frozen=True)
class SegmentationSample:
    """An image as a worker hands it over; `pixels` is None and `error` says why if it cannot be used.

    Attributes:
        pixels: (3, h, w) uint8.
        mask: (h, w) uint8 of classes and 255; after `Scale` in the size of the file.
    """

    index: int
    pixels: Tensor | None = None
    mask: Tensor | None = None
    error: str = ""


@dataclass
class SegmentationSamples(Dataset[SegmentationSample]):
    """The images of a set by index, for evaluation, or by (index, draws), for training. Errors are handed over, not raised."""

    data: SegmentationSet
    transform: ScaleAndCrop | Scale

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: int | tuple[int, Tensor]) -> SegmentationSample:
        index, draws = (key, None) if isinstance(key, int) else key
        try:
            image, mask = self.data.read(index)
        except BadData as error:
            return SegmentationSample(index, error=str(error))
        return SegmentationSample(index, *self.transform(image, mask, draws))  # type: ignore[arg-type]
