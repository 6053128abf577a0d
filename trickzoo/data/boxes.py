"""Images with boxes around objects, which `data.objects` defines.

The readers are in `data.readers.coco` and `data.readers.voc`; generated shapes are opened here.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trickzoo.data import contents
from trickzoo.data import images as image_files
from trickzoo.data.annotated import AnnotatedSet, Survey
from trickzoo.data.classes import check_classes, check_names
from trickzoo.data.objects import Annotation, DetectionImage, Faults, Objects
from trickzoo.data.shapes import CLASSES, Drawing, Shapes, draw_all
from trickzoo.errors import BadData


@dataclass(frozen=True)
class DetectionSet(AnnotatedSet):
    """Images with their objects. Some images may have no objects.

    Attributes:
        root: the folder that contains the images.
        layout: a description of the layout and the split.
        classes: the names of labels 1 … K.
        class_ids: the ids of the classes in the source: COCO's category ids, otherwise 1 … K.
        images: the images, with their names relative to `root`.
        objects: the objects of all images, in the order of the images.
        starts: (n + 1,) for each image, the index of its first object in `objects`; the last element is the number of objects.
        faults: the boxes that were dropped or extend beyond the edge of their image.
        drawings: the images themselves if they were generated, otherwise empty.
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
        """Return the objects of an image, in pixels of its file."""
        return self.objects.take(slice(self.starts[index], self.starts[index + 1]))

    def objects_in(self, index: int, image: Image.Image) -> Objects:
        """Return the objects of an image in pixels of `image`, which `read` returned and may have reduced."""
        (*_, width, height), objects = self.images[index], self.objects_of(index)
        if image.size == (width, height):
            return objects
        return objects.scaled(image.width / width, image.height / height)

    def read(self, index: int) -> Image.Image:
        """Read an image as RGB, in the EXIF orientation that its boxes refer to (`picture.Picture.as_annotated`).

        An image of more than `image_memory.MAX_PIXELS` is reduced. Raises BadData if the image cannot be read, or if its size is not the
        size that its annotation states.
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
        """Return the name of an image, relative to the root."""
        return self.images[index].name

    @property
    def strata(self) -> tuple[str, ...]:
        """The class by which each image is divided: the rarest of its classes in the set, or an empty text if it has no object."""
        frequency = np.bincount(self.objects.labels, minlength=len(self.classes) + 1)
        per_image = (self.objects_of(index).labels for index in range(len(self)))
        return tuple(
            self.classes[min(labels, key=lambda label: (frequency[label], label)) - 1] if len(labels) else "" for labels in per_image
        )

    def take(self, indices: Sequence[int]) -> DetectionSet:
        """Return the set of these images."""
        chosen = [np.arange(self.starts[index], self.starts[index + 1]) for index in indices]
        starts = np.concatenate([[0], np.cumsum([len(each) for each in chosen], dtype=np.int64)])
        objects = self.objects.take(np.concatenate(chosen) if chosen else np.array([], np.int64))
        drawings = tuple(self.drawings[index] for index in indices) if self.drawings else ()
        faults = self.faults.of({self.name(index) for index in indices})
        images = tuple(self.images[index] for index in indices)
        return replace(self, images=images, objects=objects, starts=starts, faults=faults, drawings=drawings)

    def check_readable(self, index: int) -> None:
        """Raise BadData if an image cannot be decoded."""
        image_files.decode(self.content(index), str(self.root / self.name(index)))

    def is_annotated(self, index: int) -> bool:
        """Return whether an image has at least one object."""
        return bool(len(self.objects_of(index)))

    @property
    def notes(self) -> tuple[str, ...]:
        """One line for the user for each kind of box that was dropped or clipped, and one for images with an EXIF orientation."""
        return self.faults.notes

    def with_classes(self, classes: Sequence[str], *, complete: bool = True, owner: str = "the model") -> DetectionSet:
        """Return the same images with labels 1, 2, … for these classes.

        Classes that the set does not have get unused ids. Raises BadData if the set has a class that is not among them, or if `complete`
        is true and the set lacks one. The message says that the classes are those of `owner`.
        """
        if self.classes == tuple(classes):
            return self
        check_classes(self.root, self.classes, classes, complete=complete, owner=owner)
        label_of = np.array([0, *(list(classes).index(name) + 1 for name in self.classes)])
        free = itertools.count(1 + max((number for number in self.class_ids if isinstance(number, int)), default=0))
        own = dict(zip(self.classes, self.class_ids, strict=True))
        ids = tuple(own[name] if name in own else next(free) for name in classes)
        return replace(self, classes=tuple(classes), class_ids=ids, objects=replace(self.objects, labels=label_of[self.objects.labels]))

    @functools.cached_property
    def survey(self) -> Survey:
        """The number of objects of each class that train and are judged, and the number of images that contain them.

        Computed once, from the headers of all files. Raises BadData for an image that cannot be read, or whose size is not the size that
        its annotation states.
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
            self.read(index)  # raises the error, unless the image only has to be rotated

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 over the names of images and classes, boxes, labels, flags and the images' contents, which identifies the set.

        Computed once: every file is read, in threads. Raises BadData for a file that cannot be read.
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
    files: bool = True,
) -> DetectionSet:
    """Build a set from images and the annotations of each. Invalid boxes are dropped, as `Faults` says.

    Args:
        root: the folder that contains the images.
        layout: a description of the layout and the split.
        classes: the names of labels 1 … K.
        annotated: the images with their annotations.
        class_ids: the ids of the classes in the source, by default 1 … K.
        drawings: the images themselves if they were generated.
        files: whether the images are files in `root`; otherwise there are only annotations.

    Raises BadData if there is no image, or if all boxes are fractions of their images.
    """
    faults = Faults()
    images, kept, starts = [], [], [0]
    for image, stated in annotated:
        images.append(image)
        kept += faults.sort(image, stated)
        starts.append(len(kept))
    if not images:
        raise BadData(f"{root}: {layout} has no image")
    in_first_pixel = all(max(annotation.box[2:]) <= 1 for annotation in kept)
    if in_first_pixel and any(value % 1 for annotation in kept for value in annotation.box):
        raise BadData(f"{root}: {layout}: every box lies within the first pixel of its image; write boxes in pixels, not as fractions")
    if files and not drawings:
        faults.oriented = image_files.picture_notes(root, [image.name for image in images])
    ids: tuple[int | str, ...] = tuple(range(1, len(classes) + 1)) if class_ids is None else tuple(class_ids)
    return DetectionSet(root, layout, tuple(classes), ids, tuple(images), Objects.of(kept), np.array(starts), faults, drawings)


def detection_shapes(shapes: Shapes) -> DetectionSet:
    """Return generated shapes with tight boxes. All images are drawn at once and kept in memory."""
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
