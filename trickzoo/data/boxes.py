"""Images with boxes around objects, wherever they come from. Readers: `data.coco`, `data.voc`, and here the generated shapes.

Boxes are (x0, y0, x1, y1) in pixels, 0-based and half-open: the whole of a w × h image is (0, 0, w, h), and x1 - x0 is the width.
Labels run from 1 to the number of classes; 0 is the background, as torchvision's detectors have it.

What a file says that cannot be is dropped and counted (`Faults`): boxes without area, and boxes that lie wholly outside their image.
Boxes that hang over its edge are counted; they are clipped in training, and stay as stated for the metric, as the reference metrics
take them.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trickzoo.data import contents
from trickzoo.data import images as image_files
from trickzoo.data.checks import Survey
from trickzoo.data.classes import check_classes, check_names
from trickzoo.data.shapes import CLASSES, Drawing, Shapes, draw_all
from trickzoo.errors import BadData

FARTHEST = 1e9
"""Pixels: a coordinate or a side beyond is no pixel of any image, and its square would not be exact."""
SHOWN = 20
"""Characters of a number that a message shows."""


class DetectionImage(NamedTuple):
    """One image: its path below the set's root, its id in the source (COCO's number, VOC's name), and its size in pixels."""

    name: str
    id: int | str
    width: int
    height: int


Box = tuple[float, float, float, float]


class Annotation(NamedTuple):
    """An object as a source states it; `area` is of its segment where the source has one, for COCO's size ranges."""

    box: Box
    label: int
    difficult: bool = False
    crowd: bool = False
    area: float | None = None
    id: int = 0


def within_reach(box: Box, where: str) -> Box:
    """The box itself. Raises BadData in the name of `where` it stands if a number of it is not finite or could be no pixel."""
    for value in box:
        if not abs(value) <= FARTHEST:
            raise BadData(f"{where} has a box that reaches {str(value)[:SHOWN]}; coordinates are finite numbers up to {FARTHEST:g}")
    return box


def side(value: float, where: str) -> int:
    """A width or height that an annotation states, 0 where it is not above 0: some tools write 0 or -1 where they do not know it.

    Raises BadData in the name of `where` it stands if it is no whole number of pixels.
    """
    if value <= 0:
        return 0
    if not (value <= FARTHEST and value == int(value)):
        raise BadData(f"{where} has a side of {str(value)[:SHOWN]} pixels; sides are whole numbers of pixels up to {FARTHEST:g}")
    return int(value)


@dataclass(frozen=True)
class Objects:
    """Annotated objects, of one image or of many in a row.

    Attributes:
        boxes: (n, 4) x0, y0, x1, y1.
        labels: (n,) from 1.
        difficult: (n,) VOC's flag, and "ignore" in COCO's format.
        crowd: (n,) COCO's flag: a box around many objects.
        areas: (n,) pixels; of the segment in COCO, else of the box.
        ids: (n,) of the annotation in COCO, else its place in the file.
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
        """(n,): neither crowd nor difficult. These train; the others are for the metric, which neither asks for them nor punishes them."""
        return ~(self.crowd | self.difficult)

    def scaled(self, across: float, down: float) -> Objects:
        """The same in an image of other sides."""
        sides = np.array([across, down, across, down])
        return replace(self, boxes=self.boxes * sides, areas=self.areas * (across * down))

    def take(self, which: slice | NDArray[Any]) -> Objects:
        """Some of them."""
        return Objects(*(getattr(self, each.name)[which] for each in fields(self)))

    @staticmethod
    def of(annotations: Sequence[Annotation]) -> Objects:
        """Arrays of what a source states."""
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
    """Boxes that are not as they should be: the image of each, in the set's order; and images that are turned."""

    degenerate: list[str] = field(default_factory=list)
    """Dropped: without width or height."""
    outside: list[str] = field(default_factory=list)
    """Dropped: wholly outside the image."""
    overhanging: list[str] = field(default_factory=list)
    """Kept: partly outside the image."""
    oriented: tuple[str, ...] = ()
    """What `images.orientation_notes` says."""

    def sort(self, image: DetectionImage, annotations: Iterable[Annotation]) -> list[Annotation]:
        """The annotations of an image without those that are dropped; faults are noted."""
        kept = []
        for annotation in annotations:
            x0, y0, x1, y1 = annotation.box
            if x1 <= x0 or y1 <= y0:
                self.degenerate.append(image.name)
            elif x1 <= 0 or y1 <= 0 or x0 >= image.width or y0 >= image.height:
                self.outside.append(image.name)
            else:
                if x0 < 0 or y0 < 0 or x1 > image.width or y1 > image.height:
                    self.overhanging.append(image.name)
                kept.append(annotation)
        return kept

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for each kind that occurs, to be shown to the user."""
        kinds = (
            (self.degenerate, "without area dropped"),
            (self.outside, "outside the image dropped"),
            (self.overhanging, "over the image's edge, clipped in training"),
        )
        boxes = (f"{len(names)} box{'es' * (len(names) > 1)} {what} (the first in {names[0]})" for names, what in kinds if names)
        return (*boxes, *self.oriented)


@dataclass(frozen=True)
class DetectionSet:
    """Images with their objects; images without objects among them.

    Attributes:
        root: the folder that the images' names are below.
        layout: what was found, in words.
        classes: names of labels 1 … K.
        class_ids: what the source calls them: COCO's category ids, else 1 … K.
        objects: of all images, in the images' order.
        starts: (n + 1,) where the objects of each image begin.
        faults: boxes that were dropped or hang over the edge.
        drawings: the images, where they are generated and no files.
    """

    root: Path
    layout: str
    classes: tuple[str, ...]
    class_ids: tuple[int | str, ...]
    images: tuple[DetectionImage, ...]
    objects: Objects
    starts: NDArray[np.int64]
    faults: Faults
    drawings: tuple[Drawing, ...] = ()

    def __post_init__(self) -> None:
        check_names(self.classes, self.root)

    def __len__(self) -> int:
        return len(self.images)

    def objects_of(self, index: int) -> Objects:
        """The objects of an image."""
        return self.objects.take(slice(self.starts[index], self.starts[index + 1]))

    def read(self, index: int) -> Image.Image:
        """An image, RGB, turned as its boxes are for (`images.Picture.as_annotated`).

        It is smaller than its entry says where that is of more than `images.MAX_PIXELS`. Raises BadData if it is unreadable, or is not of
        the size that its boxes are for.
        """
        entry = self.images[index]
        if self.drawings:
            return Image.fromarray(self.drawings[index].image)
        path = self.root / entry.name
        picture = image_files.read(path)
        seen = picture.as_annotated((entry.width, entry.height))
        if seen is None:
            raise BadData(
                f"{path} is {picture.sides} pixels and its annotation is for {entry.width} × {entry.height}; "
                "one of them is of another image, or was resized"
            )
        return seen.image

    def name(self, index: int) -> str:
        """The name of an image, below the root."""
        return self.images[index].name

    def is_annotated(self, index: int) -> bool:
        """Whether an image has any annotation."""
        return bool(len(self.objects_of(index)))

    @property
    def generated(self) -> bool:
        """Whether the images were generated and are no files."""
        return bool(self.drawings)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the annotations: a line for each kind of box that was dropped or clipped."""
        return self.faults.notes

    def in_order(self, classes: Sequence[str], *, all_of_them: bool = True, known_by: str = "the model") -> DetectionSet:
        """The same images with labels 1, 2, … for these classes.

        Raises BadData if the set has other classes, or lacks some and `all_of_them` are wanted. Those that it lacks get ids that are free.
        """
        if self.classes == tuple(classes):
            return self
        check_classes(self.root, self.classes, classes, all_of_them=all_of_them, known_by=known_by)
        label_of = np.array([0, *(list(classes).index(name) + 1 for name in self.classes)])
        free = itertools.count(1 + max((number for number in self.class_ids if isinstance(number, int)), default=0))
        own = dict(zip(self.classes, self.class_ids, strict=True))
        ids = tuple(own[name] if name in own else next(free) for name in classes)
        return replace(self, classes=tuple(classes), class_ids=ids, objects=replace(self.objects, labels=label_of[self.objects.labels]))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the images, below the root."""
        return tuple(image.name for image in self.images)

    @functools.cached_property
    def contents(self) -> tuple[bytes, ...]:
        """SHA-256 of each image's file; none where the images are generated. Computed once; raises BadData if one cannot be read."""
        return () if self.drawings else contents.digests(self.root, self.names)

    @functools.cached_property
    def survey(self) -> Survey:
        """How many objects of each class train and are judged, and in how many images.

        Computed once. Raises BadData for an image that is not readable, or not of the size that its boxes are for, by the files' headers.
        """
        for _ in contents.each_image(self._look, 0 if self.drawings else len(self)):
            pass
        plain = self.objects.plain
        image_of = np.repeat(np.arange(len(self)), np.diff(self.starts))[plain]
        pairs = np.unique(np.stack([image_of, self.objects.labels[plain]]), axis=1)
        counts, images = (
            dict(zip(self.classes, np.bincount(labels, minlength=len(self.classes) + 1)[1:].tolist(), strict=True))
            for labels in (self.objects.labels[plain], pairs[1])
        )
        return Survey("objects", counts, images, int((~plain).sum()))

    def _look(self, index: int) -> None:
        entry = self.images[index]
        if image_files.size_of(self.root / entry.name) != (entry.width, entry.height):
            self.read(index)  # says what is wrong, unless the image is to be turned

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over the names of images and classes, boxes, labels, flags and the images' contents; it tells one set from another.

        Every image is read for it, in threads. Computed once; raises BadData for a file that cannot be read.
        """
        whole = hashlib.sha256(json.dumps([self.layout if self.drawings else "", self.classes, self.images]).encode())
        for array in (self.starts, *(getattr(self.objects, each.name) for each in fields(self.objects))):
            whole.update(array.tobytes())
        whole.update(b"".join(self.contents))
        return whole.hexdigest()


def collect(
    root: Path,
    layout: str,
    classes: Sequence[str],
    annotated: Iterable[tuple[DetectionImage, Sequence[Annotation]]],
    *,
    class_ids: Sequence[int | str] | None = None,
    drawings: tuple[Drawing, ...] = (),
) -> DetectionSet:
    """A set of images and what a source states about each; what cannot be is sorted out. Raises BadData if there is no image."""
    faults = Faults()
    images, kept, starts = [], [], [0]
    for image, stated in annotated:
        images.append(image)
        kept += faults.sort(image, stated)
        starts.append(len(kept))
    if not images:
        raise BadData(f"{root}: {layout} has no image")
    if not drawings:
        faults.oriented = image_files.orientation_notes(root, [image.name for image in images])
    ids: tuple[int | str, ...] = tuple(range(1, len(classes) + 1)) if class_ids is None else tuple(class_ids)
    return DetectionSet(root, layout, tuple(classes), ids, tuple(images), Objects.of(kept), np.array(starts), faults, drawings)


def detection_shapes(shapes: Shapes) -> DetectionSet:
    """Generated shapes with tight boxes; all are drawn at once and kept in memory. `objects="several"` gives two to five an image."""
    drawings = draw_all(shapes)
    annotated = (
        (
            DetectionImage(f"{shapes.split}/{index}", index, shapes.size, shapes.size),
            [
                Annotation(tuple(box), label + 1, id=place)
                for place, (box, label) in enumerate(zip(drawing.boxes.tolist(), drawing.labels.tolist(), strict=True))
            ],
        )
        for index, drawing in enumerate(drawings)
    )
    return collect(Path("shapes"), shapes.description, CLASSES, annotated, drawings=drawings)
