"""Transforms of images with boxes or masks, and the samples of detection and segmentation.

A transform takes its random numbers as an argument: `DRAWS` uniform draws for each image. The same draws give the same sample, in any
batch, process or order. `FitAndFlip` without draws is the transform of evaluation.
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

from trickzoo.data.boxes import DetectionSet
from trickzoo.data.masks import IGNORE, SegmentationSet
from trickzoo.data.objects import Objects
from trickzoo.errors import BadData, BadOption

BLUR_KERNEL = 7
"""Pixels. With a standard deviation below 1 the weights of a Gaussian kernel are negligible beyond this width."""


def fit(width: int, height: int, short: int, long: float = math.inf) -> tuple[int, int]:
    """Return the width and height at which the short side is `short`, or less if the long side would exceed `long`.

    The aspect ratio is kept, and no side becomes less than one pixel.
    """
    scale = min(short / min(width, height), long / max(width, height))
    return max(round(width * scale), 1), max(round(height * scale), 1)


# ---------------------------------------------------------------------------------------------------------------------
# detection


def check_sides(short: int, long: int) -> None:
    """Raise BadOption unless 0 < short ≤ long."""
    if not 0 < short <= long:
        raise BadOption(f"a short side of {short} and a long side of {long}: the short one must be above 0 and at most the long one")


@dataclass(frozen=True)
class FitAndFlip:
    """The transform of detection: resizing, and in training a random horizontal flip.

    Attributes:
        short: pixels of the short side.
        long: pixels that the long side has at most; the short side becomes less if need be.
        flip: probability of a flip.

    The default sides are those of the released recipe for VOC; its sides for COCO are 800 and 1333.
    """

    short: int = 600
    long: int = 1000
    flip: float = 0.5
    DRAWS: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_sides(self.short, self.long)

    def __call__(self, image: Image.Image, objects: Objects, draws: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return a sample of an RGB image and its objects: pixels, boxes and labels.

        The pixels are (3, h, w) uint8, the boxes (k, 4) float32 in these pixels, clipped to the image, and the labels (k,). Crowd and
        difficult objects are left out, because the loss does not use them. `draws` is of shape (1,); without it the image is not flipped.
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
        some = (corners[:, 2:] > corners[:, :2]).all(1)  # a very thin box may become empty in float32, and detectors refuse empty boxes
        return pixels, corners[some], torch.from_numpy(plain.labels)[some]


@dataclass(frozen=True)
class DetectionSample:
    """An image with its objects, from a worker process. If the image cannot be used, `pixels` is None and `error` gives the reason.

    Attributes:
        pixels: (3, h, w) uint8.
        boxes, labels: (k, 4) float32 in pixels of `pixels`, and (k,) from 1, without crowd and difficult objects.
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
    """The samples of a detection set: by index for evaluation, by (index, draws) for training.

    For an image that cannot be used the sample holds the error; none is raised. Without a transform, images are as they are in the file,
    for networks that resize them, and the samples have no objects.
    """

    data: DetectionSet
    transform: FitAndFlip | None

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: int | tuple[int, Tensor]) -> DetectionSample:
        index, draws = (key, None) if isinstance(key, int) else key
        try:
            image = self.data.read(index)
        except BadData as error:
            return DetectionSample(index, error=str(error))
        *_, width, height = self.data.images[index]
        if self.transform is None:
            return DetectionSample(index, functional.pil_to_tensor(image), size=(width, height))
        return DetectionSample(index, *self.transform(image, self.data.objects_in(index, image), draws), (width, height))


def to_file(boxes: Tensor, pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Scale (k, 4) boxes from the (3, h, w) `pixels` that they were found in to an image of `size`, the file's width and height.

    The boxes are on the CPU, because GPUs of Apple have no float64.
    """
    height, width = pixels.shape[-2:]
    scale = torch.tensor([size[0] / width, size[1] / height] * 2, dtype=torch.float64)
    return boxes.double() * scale


# ---------------------------------------------------------------------------------------------------------------------
# segmentation


@dataclass(frozen=True)
class ScaleAndCrop:
    """The transform of segmentation in training: random size, crop, flip and blur, as in the released script (gluoncv/data/segbase.py).

    Attributes:
        base: the long side becomes a whole number of pixels between base × `scale[0]` and base × `scale[1]`.
        crop: side in pixels of the square that is cut out. A smaller image is padded on the right and below, in black; the mask is
            padded with `IGNORE`.
        scale: lowest and highest factor of `base`.
        flip: probability of a horizontal flip.
        blur: probability of a Gaussian blur, whose standard deviation is U[0, 1) pixels.
    """

    base: int = 520
    crop: int = 480
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    blur: float = 0.5
    DRAWS: ClassVar[int] = 6

    def __call__(self, image: Image.Image, mask: NDArray[np.uint8], draws: Tensor) -> tuple[Tensor, Tensor]:
        """Return a random crop of an RGB image and its (H, W) mask, by (6,) draws: (3, crop, crop) and (crop, crop), both uint8."""
        flip, size, right, down, blur, radius = draws.tolist()
        shortest, longest = (int(self.base * factor) for factor in self.scale)
        side = shortest + int(size * (longest - shortest + 1))
        width, height = fit(image.width, image.height, side, side)
        # Resized as an image, because torchvision resizes masks by "nearest", which shifts them by up to half a pixel.
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
    """The transform of segmentation in evaluation, at one scale.

    Attributes:
        short: pixels of the image's short side; None keeps the image's size.

    To bound the memory, the long side has at most `LONGEST` × `short` pixels, and without `short` an image at most `MOST` pixels. A larger
    one becomes smaller, with the same aspect ratio.
    """

    short: int | None = 480
    DRAWS: ClassVar[int] = 0
    LONGEST: ClassVar[int] = 4
    MOST: ClassVar[int] = 2**22

    def __call__(self, image: Image.Image, mask: NDArray[np.uint8], draws: None = None) -> tuple[Tensor, Tensor]:
        """Return an RGB image as (3, h, w) uint8, and its (H, W) mask as it is.

        The mask keeps the file's size. Predictions are enlarged to it, so that every pixel of the file is judged.
        """
        return self.image(image), torch.from_numpy(mask)

    def image(self, image: Image.Image) -> Tensor:
        """Return an RGB image, resized, as (3, h, w) uint8."""
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
    """An image with its mask, from a worker process. If the image cannot be used, `pixels` is None and `error` gives the reason.

    Attributes:
        pixels: (3, h, w) uint8.
        mask: (h, w) uint8 of classes and 255, after `Scale` (H, W), the size in the file.
    """

    index: int
    pixels: Tensor | None = None
    mask: Tensor | None = None
    error: str = ""


@dataclass
class SegmentationSamples(Dataset[SegmentationSample]):
    """The samples of a segmentation set: by index for evaluation, by (index, draws) for training.

    For an image that cannot be used the sample holds the error; none is raised. Without a transform, images are as they are in the file.
    """

    data: SegmentationSet
    transform: ScaleAndCrop | Scale | None

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: int | tuple[int, Tensor]) -> SegmentationSample:
        index, draws = (key, None) if isinstance(key, int) else key
        try:
            image, mask = self.data.read(index)
        except BadData as error:
            return SegmentationSample(index, error=str(error))
        if self.transform is None:
            return SegmentationSample(index, functional.pil_to_tensor(image), torch.from_numpy(mask))
        return SegmentationSample(index, *self.transform(image, mask, draws))  # type: ignore[arg-type]
