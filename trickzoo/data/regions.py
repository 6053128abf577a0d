"""Regions that annotation files state by polygons or by runs of pixels, and drawing them as the mask of an image.

Coordinates are in pixels, with (0, 0) at the outer corner of the first pixel. A pixel belongs to a polygon by the rule of pycocotools.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trickzoo.data import images as image_files
from trickzoo.data.masks import IGNORE, UNLABELLED
from trickzoo.errors import BadData

BACKGROUND = ("background", "_background_")
"""Names of classes whose regions are background, such as holes in others. Labelme writes the second."""
IGNORED = (*UNLABELLED, "__ignore__")
"""Names of classes whose regions are not judged. Labelme writes the last."""
CORNERS = 72
"""Corners of the polygon that stands for a circle or an ellipse. Its area is 0.1 % too small."""
LONGEST = 1e6
"""The longest outline in pixels that is drawn. pycocotools takes 50 bytes for each pixel of it."""

Polygon: TypeAlias = NDArray[np.float64]
"""(n, 2) the corners x, y."""


class Region(NamedTuple):
    """A region of an image: the union of polygons, or a mask whose first pixel is at `corner` (x, y).

    The mask is returned by a function, because all masks of a set can be too large for the memory.
    """

    label: str
    polygons: tuple[Polygon, ...] = ()
    pixels: Callable[[], NDArray[np.bool_]] | None = None
    corner: tuple[int, int] = (0, 0)


class RegionImage(NamedTuple):
    """The path of an image below the set's root, its size in pixels as annotated, and its regions. Later ones lie above earlier ones."""

    name: str
    width: int
    height: int
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class RegionSet:
    """Images with regions.

    Attributes:
        root: the folder that contains the images.
        layout: a description of the layout and the split.
        classes: the names of the regions.
        images: the images.
    """

    root: Path
    layout: str
    classes: tuple[str, ...]
    images: tuple[RegionImage, ...]

    def draw(self, index: int, classes: Sequence[str]) -> tuple[NDArray[np.uint8], int]:
        """Draw the mask of an image as the function `draw` does. Raises BadData as it does, and if the image has another size."""
        image = self.images[index]
        place = self.root / image.name
        width, height = image_files.size_of(place)
        if {width, height} != {image.width, image.height}:
            sizes = f"{width} × {height} pixels, and {image.width} × {image.height} are stated"
            raise BadData(f"{place} is {sizes}; they must be of one size")
        return draw(image, classes)


def mask_classes(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the classes of masks of regions with these labels: the background, and the labels that are judged."""
    return ("background", *(label for label in labels if label.lower() not in (*BACKGROUND, *IGNORED)))


def draw(image: RegionImage, classes: Sequence[str]) -> tuple[NDArray[np.uint8], int]:
    """Return (height, width) the number of each pixel's class, or `IGNORE`, and the number of pixels whose class a later region changed.

    `classes` are those of `mask_classes`. A pixel of no region is background. Raises BadData for a mask that is not valid.
    """
    mask = np.zeros((image.height, image.width), np.uint8)
    drawn = np.zeros(mask.shape, np.bool_)
    numbers = {label: number for number, label in enumerate(classes)}
    changed = 0
    for region in image.regions:
        lower = region.label.lower()
        number = IGNORE if lower in IGNORED else 0 if lower in BACKGROUND else numbers[region.label]
        inside = _inside(region, image)
        changed += int((inside & drawn & (mask != number)).sum())
        mask[inside] = number
        drawn |= inside
    return mask, changed


def _inside(region: Region, image: RegionImage) -> NDArray[np.bool_]:
    """Return (height, width) which pixels of an image belong to a region."""
    if region.pixels is None:
        from pycocotools import mask as coco_mask

        runs = coco_mask.frPyObjects([corners.ravel().tolist() for corners in region.polygons], image.height, image.width)
        return np.asarray(coco_mask.decode(coco_mask.merge(runs)) > 0)
    pixels, whole = region.pixels(), np.zeros((image.height, image.width), np.bool_)
    (x, y), (height, width) = region.corner, pixels.shape
    left, top = max(x, 0), max(y, 0)
    rows, columns = max(min(y + height, image.height) - top, 0), max(min(x + width, image.width) - left, 0)
    whole[top : top + rows, left : left + columns] = pixels[top - y : top - y + rows, left - x : left - x + columns]
    return whole


def polygon(values: Any, where: str) -> Polygon:
    """Return a polygon of n · 2 numbers x, y, x, y, … or of n pairs.

    Raises BadData, which begins with `where`, if they are not finite numbers, fewer than three corners, or an outline of more than
    `LONGEST` pixels.
    """
    try:
        corners: Polygon = np.asarray(values, np.float64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        raise BadData(f"{where} has an outline that is not pairs of numbers") from None
    if len(corners) < 3:
        raise BadData(f"{where} has an outline of {len(corners)} points; a polygon has three or more, so draw it anew or delete it")
    if not np.hypot(*(corners - np.roll(corners, 1, axis=0)).T).sum() <= LONGEST or not np.abs(corners).max() <= LONGEST:
        raise BadData(f"{where} has an outline of more than {LONGEST:,.0f} pixels; coordinates are finite numbers of pixels")
    return corners


def rectangle(x0: float, y0: float, x1: float, y1: float, where: str) -> Polygon:
    """Return the polygon of a rectangle between two opposite corners. Raises BadData as `polygon` does."""
    return polygon([x0, y0, x1, y0, x1, y1, x0, y1], where)


def ellipse(x: float, y: float, across: float, down: float, angle: float, where: str) -> Polygon:
    """Return a polygon of `CORNERS` corners for an ellipse: its centre, its half-axes, and its angle in radians, as in the y axis down.

    Raises BadData as `polygon` does.
    """
    turn = np.arange(CORNERS) * (2 * math.pi / CORNERS)
    a, b = across * np.cos(turn), down * np.sin(turn)
    cos, sin = math.cos(angle), math.sin(angle)
    return polygon(np.stack([x + a * cos - b * sin, y + a * sin + b * cos], 1), where)


def pixels_of_runs(stated: Any, width: int, height: int, where: str) -> NDArray[np.bool_]:
    """Return (height, width) the pixels of a region in COCO's run-length encoding, whose counts are a list or a text.

    Raises BadData, which begins with `where`, if it is not valid, or is that of an image of another size.
    """
    fault = f"{where} has a segmentation that is not a valid run-length encoding"
    if not isinstance(stated, dict) or stated.get("size") != [height, width]:
        size = f" for {height} × {width} pixels" if isinstance(stated, dict) else ""
        raise BadData(f"{fault}{size}")
    counts = stated.get("counts")
    numbers: Any = _decoded(counts) if isinstance(counts, str) else counts
    valid = isinstance(numbers, list) and all(isinstance(n, int) and 0 <= n <= width * height for n in numbers)
    if not valid or sum(numbers) != width * height:
        raise BadData(f"{fault} for {height} × {width} pixels")
    inside = np.repeat(np.arange(len(numbers)) % 2 == 1, numbers)
    return inside.reshape(width, height).T


def _decoded(text: str) -> list[int] | None:
    """Return the counts in COCO's compressed text, or None if it ends within a number, or has too large a one.

    Each character has five bits of a number, lowest first, and a bit that says whether more follow. From the fourth number on, a number is
    the difference from the one before the last.
    """
    counts: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - 48
        number |= (bits & 31) << shift
        shift += 5
        if shift > 60:
            return None
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number = shift = 0
    return None if shift else counts
