"""The objects in one image: their boxes and labels, as readers find them, and what is wrong with them.

Boxes are (x0, y0, x1, y1) in pixels, 0-based and half-open: the box of a whole w × h image is (0, 0, w, h), and x1 - x0 is the width.
Labels run from 1 to the number of classes; 0 is the background, as in torchvision's detectors.

Boxes without area, and boxes that lie completely outside their image, are dropped and counted (`Faults`). Boxes that extend beyond the edge
of their image are counted too. They are clipped in training and stay unclipped for the metric, as in the reference metrics.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trickzoo.errors import BadData
from trickzoo.wording import count

FARTHEST = 1e9
"""The largest coordinate or side in pixels that is accepted. No image is larger, and areas up to its square are still exact."""
SHOWN = 20
"""How many characters of a number a message shows."""


class DetectionImage(NamedTuple):
    """One image: its path below the set's root, its id in the source (the number in COCO, the name in VOC), and its size in pixels."""

    name: str
    id: int | str
    width: int
    height: int


Box = tuple[float, float, float, float]


class Annotation(NamedTuple):
    """An object as the source states it. `area` is that of its segment if the source has one; COCO's size ranges need it."""

    box: Box
    label: int
    difficult: bool = False
    crowd: bool = False
    area: float | None = None
    id: int = 0


def within_reach(box: Box, where: str) -> Box:
    """Return the box itself. Raises BadData, which begins with `where`, if a coordinate is not finite or beyond `FARTHEST`."""
    for value in box:
        if not abs(value) <= FARTHEST:
            raise BadData(f"{where} has a box that reaches {str(value)[:SHOWN]}; coordinates are finite numbers up to {FARTHEST:g}")
    return box


def turned(box: Box, degrees: object) -> Box:
    """Return the box around one that is turned about its centre. A box without area, or an angle that is no number, changes nothing."""
    x0, y0, x1, y1 = box
    try:
        angle = math.radians(float(degrees))  # type: ignore[arg-type] # what cannot be converted raises
    except (TypeError, ValueError, OverflowError):
        return box
    if not math.isfinite(angle) or degrees is True or angle % math.pi == 0 or x1 <= x0 or y1 <= y0:
        return box
    cos, sin, width, height = abs(math.cos(angle)), abs(math.sin(angle)), x1 - x0, y1 - y0
    x, y, across, down = (x0 + x1) / 2, (y0 + y1) / 2, (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
    return x - across, y - down, x + across, y + down


def side(value: float, where: str) -> int:
    """Return the width or height that an annotation states, or 0 for a negative value: some tools write 0 or -1 for an unknown side.

    Raises BadData, which begins with `where`, if the value is not a whole number of pixels or is beyond `FARTHEST`.
    """
    if value <= 0:
        return 0
    if not (value <= FARTHEST and value == int(value)):
        raise BadData(f"{where} has a side of {str(value)[:SHOWN]} pixels; sides are whole numbers of pixels up to {FARTHEST:g}")
    return int(value)


@dataclass(frozen=True)
class Objects:
    """Annotated objects of one image, or of several images one after the other.

    Attributes:
        boxes: (n, 4) x0, y0, x1, y1 in pixels.
        labels: (n,) labels of the classes, from 1.
        difficult: (n,) VOC's flag "difficult", and COCO's flag "ignore".
        crowd: (n,) COCO's flag "iscrowd": the box is around many objects.
        areas: (n,) areas in square pixels: those of the segments in COCO, otherwise those of the boxes.
        ids: (n,) ids of the annotations in COCO, otherwise their positions in the file.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]
    crowd: NDArray[np.bool_]
    areas: NDArray[np.float64]
    ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def plain(self) -> NDArray[np.bool_]:
        """(n,) whether each object is neither crowd nor difficult. Only these are used in training; the metrics ignore the others."""
        return ~(self.crowd | self.difficult)

    def scaled(self, across: float, down: float) -> Objects:
        """Return the objects in the image resized by these factors."""
        sides = np.array([across, down, across, down])
        return replace(self, boxes=self.boxes * sides, areas=self.areas * (across * down))

    def take(self, which: slice | NDArray[Any]) -> Objects:
        """Return the objects that a slice, an array of indices or a mask selects."""
        return Objects(*(getattr(self, each.name)[which] for each in fields(self)))

    @staticmethod
    def of(annotations: Sequence[Annotation]) -> Objects:
        """Return the objects of these annotations."""
        boxes = np.array([a.box for a in annotations], np.float64).reshape(-1, 4)
        of_box = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        return Objects(
            boxes,
            np.array([a.label for a in annotations], np.int64),
            np.array([a.difficult for a in annotations], bool),
            np.array([a.crowd for a in annotations], bool),
            np.array([box if a.area is None else a.area for a, box in zip(annotations, of_box, strict=True)], np.float64),
            np.array([a.id for a in annotations], np.int64),
        )


@dataclass
class Faults:
    """The faulty boxes of a set, and notes on its images with an EXIF orientation.

    Each list has the name of the image of every such box, in the set's order.
    """

    degenerate: list[str] = field(default_factory=list)
    """Images of the boxes that were dropped because they have no width or no height."""
    outside: list[str] = field(default_factory=list)
    """Images of the boxes that were dropped because they lie completely outside the image."""
    overhanging: list[str] = field(default_factory=list)
    """Images of the boxes that lie partly outside the image. They are kept."""
    twice: list[str] = field(default_factory=list)
    """Images of the boxes that an earlier box of the same class equals. They are kept, as in the reference metrics."""
    oriented: tuple[str, ...] = ()
    """Sentences from `images.picture_notes`."""

    def sort(self, image: DetectionImage, annotations: Iterable[Annotation]) -> list[Annotation]:
        """Return the annotations of an image without those that are dropped, and record the faults."""
        kept: list[Annotation] = []
        seen: set[tuple[Box, int]] = set()
        for annotation in annotations:
            x0, y0, x1, y1 = annotation.box
            if x1 <= x0 or y1 <= y0:
                self.degenerate.append(image.name)
            elif x1 <= 0 or y1 <= 0 or x0 >= image.width or y0 >= image.height:
                self.outside.append(image.name)
            else:
                if x0 < 0 or y0 < 0 or x1 > image.width or y1 > image.height:
                    self.overhanging.append(image.name)
                if (annotation.box, annotation.label) in seen:
                    self.twice.append(image.name)
                seen.add((annotation.box, annotation.label))
                kept.append(annotation)
        return kept

    def of(self, names: Container[str]) -> Faults:
        """Return the faults of some of the images. The notes on orientations are kept as they are."""
        degenerate, outside, overhanging, twice = (
            [name for name in each if name in names] for each in (self.degenerate, self.outside, self.overhanging, self.twice)
        )
        return Faults(degenerate, outside, overhanging, twice, self.oriented)

    @property
    def notes(self) -> tuple[str, ...]:
        """One line for each kind of fault that occurs, to be shown to the user."""
        kinds = (
            (self.degenerate, "without area dropped"),
            (self.outside, "outside the image dropped"),
            (self.overhanging, "over the image's edge, clipped in training"),
            (self.twice, "equal to another of the same class"),
        )
        boxes = (f"{count(len(names), 'box')} {what} (the first in {names[0]})" for names, what in kinds if names)
        return (*boxes, *self.oriented)
