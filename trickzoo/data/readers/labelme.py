"""Boxes and regions in the JSON files of Labelme: one for each image, beside it, or in a folder beside `images/`.

Of a polygon, a circle or a mask, the box around it is taken. Shapes without an area, such as points and lines, are an error. `classes.txt`
may list the classes; otherwise they are all labels, sorted.
"""

from __future__ import annotations

import base64
import functools
import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from trickzoo.data import images as image_files
from trickzoo.data import mask_images
from trickzoo.data.boxes import DetectionSet, collect
from trickzoo.data.exports import Export, Pair, annotated_images, annotations_in, pairs_of_splits
from trickzoo.data.listing import CLASS_LIST, read_classes, read_text, same_form
from trickzoo.data.objects import Annotation, Box, DetectionImage, side, within_reach
from trickzoo.data.regions import BACKGROUND, IGNORED, Polygon, Region, RegionImage, RegionSet, ellipse, polygon, rectangle
from trickzoo.errors import BadData, nearest

BYTES = 256 << 20
"""How many bytes a file may have. It can contain the image."""
SUFFIX = ".json"
FOLDERS = ("annotations", "labels", "labelme", "json", "jsons")
"""Names of the folder of the files beside that of the images, in upper or lower case."""
POLYGONS = ("polygon", "rectangle", "oriented_rectangle", "rotation")
"""The types of shapes that are stated by their corners. A rectangle is so in the files of AnyLabeling."""
SHOWN = 40
"""How many characters of a value a message shows."""
DAMAGED = (msgspec.MsgspecError, RecursionError)


class _Shape(msgspec.Struct):
    label: str
    points: list[tuple[float, float]]
    shape_type: str | None = None
    mask: str | None = None


class _File(msgspec.Struct):
    shapes: list[_Shape]
    path: str = msgspec.field(name="imagePath")
    height: float | None = msgspec.field(name="imageHeight", default=None)
    width: float | None = msgspec.field(name="imageWidth", default=None)


def labelme_exports(root: Path) -> list[Export]:
    """Return the images in a folder that have a file of Labelme each, which open as `DetectionSet`."""
    pairs = pairs_of_splits(root, SUFFIX, FOLDERS)
    pairs = {split: pair for split, pair in pairs.items() if _is_labelme(annotations_in(pair, SUFFIX)[0])}
    every = tuple(pairs.values())
    openers = {split: functools.partial(_open_boxes, root, every, pair) for split, pair in pairs.items()}
    return [Export("Labelme export", "labelme", every[0][0], openers)] if pairs else []


def labelme_regions(root: Path) -> list[Export]:
    """Return the exports of `labelme_exports`, which open the shapes, as `RegionSet`, in place of their boxes."""
    return [export.opened_by(_open_regions) for export in labelme_exports(root)]


def _is_labelme(path: Path) -> bool:
    try:
        _read(path)
    except BadData:
        return False
    return True


def _read(path: Path) -> _File:
    try:
        return msgspec.json.decode(read_text(path, at_most=BYTES), type=_File)
    except DAMAGED as error:
        raise BadData(f"{path} is not a file of Labelme ({error or type(error).__name__})") from None


def _classes(root: Path, every: Sequence[Pair]) -> tuple[str, ...]:
    """Return the classes of all splits. Raises BadData if there are none."""
    if (root / CLASS_LIST).is_file():
        return read_classes(root / CLASS_LIST)
    labels = {_label(shape, path) for pair in every for path in annotations_in(pair, SUFFIX) for shape in _read(path).shapes}
    if not labels:
        raise BadData(f"the files in {every[0][0]} annotate no object; list the classes in {root / CLASS_LIST}, one per line")
    return tuple(sorted(labels))


def _label(shape: _Shape, path: Path) -> str:
    if not shape.label.strip():
        raise BadData(f"{path} has a shape without a label; name its class")
    return same_form(shape.label.strip())


def _known(label: str, classes: Sequence[str], path: Path) -> str:
    if label not in classes:
        raise BadData(f'{path} has a "{label[:SHOWN]}", which is not in {CLASS_LIST}{nearest(label, classes)}')
    return label


def _open_boxes(root: Path, every: Sequence[Pair], pair: Pair, layout: str) -> DetectionSet:
    classes = tuple(label for label in _classes(root, every) if label.lower() not in (*BACKGROUND, *IGNORED))
    rows = []
    for path, image in annotated_images(pair, SUFFIX, "a file of Labelme"):
        content = _read(path)
        labelled = [(_label(shape, path), shape) for shape in content.shapes]
        objects = [
            Annotation(_box(shape, f"{path}: shape {number}"), classes.index(_known(label, classes, path)) + 1, id=number)
            for number, (label, shape) in enumerate(labelled, 1)
            if label.lower() not in (*BACKGROUND, *IGNORED)
        ]
        name = image.relative_to(root).as_posix()
        rows.append((DetectionImage(name, same_form(image.stem), *_sides(content, path, image)), objects))
    return collect(root, layout, classes, rows)


def _open_regions(root: Path, every: Sequence[Pair], pair: Pair, layout: str) -> RegionSet:
    classes = _classes(root, every)
    found = []
    for path, image in annotated_images(pair, SUFFIX, "a file of Labelme"):
        content = _read(path)
        regions = [
            _region(shape, _known(_label(shape, path), classes, path), f"{path}: shape {number}")
            for number, shape in enumerate(content.shapes, 1)
        ]
        found.append(RegionImage(image.relative_to(root).as_posix(), *_sides(content, path, image), tuple(regions)))
    return RegionSet(root, layout, classes, tuple(found))


def _sides(content: _File, path: Path, image: Path) -> tuple[int, int]:
    """Return width and height of the image that was annotated, which is turned as its EXIF orientation says."""
    width, height = (side(value or 0, str(path)) for value in (content.width, content.height))
    return (width, height) if width and height else image_files.size_of(image)


def _box(shape: _Shape, where: str) -> Box:
    corners = _corners(shape, where)
    (x0, y0), (x1, y1) = corners.min(0).tolist(), corners.max(0).tolist()
    last = shape.shape_type == "mask"  # its points are the first and the last pixel
    return within_reach((x0, y0, x1 + last, y1 + last), where)


def _region(shape: _Shape, label: str, where: str) -> Region:
    if shape.shape_type != "mask":
        return Region(label, (_corners(shape, where),))
    x, y = np.round(_corners(shape, where).min(0)).astype(int).tolist()
    return Region(label, pixels=functools.partial(_pixels, shape.mask or "", where), corner=(x, y))


def _corners(shape: _Shape, where: str) -> Polygon:
    """Return the corners of a shape, or those of the box around a mask."""
    kind, points = shape.shape_type or "polygon", shape.points
    if kind in POLYGONS and (len(points) > 2 or kind == "polygon"):
        return polygon(points, where)
    if kind in ("rectangle", "circle", "mask") and len(points) == 2:
        (x0, y0), (x1, y1) = points
        if kind == "circle":  # its centre, and a point on it
            radius = math.hypot(x1 - x0, y1 - y0)
            return ellipse(x0, y0, radius, radius, 0.0, where)
        return rectangle(x0, y0, x1, y1, where)
    raise BadData(f'{where} is a "{kind[:SHOWN]}" of {len(points)} points, which has no area; draw a polygon or a rectangle, or delete it')


def _pixels(text: str, where: str) -> NDArray[np.bool_]:
    """Return (H, W) the pixels of a mask, which is a PNG file in base64."""
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError:
        raise BadData(f"{where} has a mask that is not base64") from None
    return mask_images.decode_mask(content, where) != 0
