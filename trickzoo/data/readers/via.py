"""Boxes in VIA's own JSON and CSV files (VGG Image Annotator 1 and 2), `via*.json` or `via*.csv` beside the images or above `images/`.

Of a polygon, a circle or an ellipse, the box around it is taken. The class is the value of the only attribute that regions have.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from trickzoo.data import images as image_files
from trickzoo.data.boxes import DetectionSet, collect
from trickzoo.data.exports import ALL, Export
from trickzoo.data.listing import Files, read_text, visible
from trickzoo.data.objects import Annotation, Box, DetectionImage, within_reach
from trickzoo.data.regions import Polygon, Region, RegionImage, RegionSet, ellipse, polygon, rectangle
from trickzoo.errors import BadData

BYTES = 256 << 20
"""How many bytes a file may have."""
SHAPES = ("rect", "circle", "ellipse", "polygon", "polyline")
SHOWN = 40
"""How many characters of a value a message shows."""
DAMAGED = (msgspec.MsgspecError, UnicodeError, RecursionError, csv.Error)

Shape = dict[str, Any]


class _Region(msgspec.Struct):
    shape_attributes: Shape
    region_attributes: dict[str, Any]


class _Image(msgspec.Struct):
    filename: str
    regions: list[_Region] | dict[str, _Region] = []


class _Project(msgspec.Struct):
    images: dict[str, _Image] = msgspec.field(name="_via_img_metadata")


def via_exports(root: Path) -> list[Export]:
    """Return the files of VIA in a folder. A JSON file in COCO's format, which VIA writes too, is none of them."""
    names = [path for pattern in ("via*.json", "via*.csv") for path in visible(root, pattern)]
    return [
        Export("VIA export", "via", path, {ALL: functools.partial(_open, root, path)})
        for path in names
        if path.suffix == ".csv" or "coco" not in path.name
    ]


def via_regions(root: Path) -> list[Export]:
    """Return the exports of `via_exports`, which open the regions, as `RegionSet`, in place of their boxes."""
    return [export.opened_by(_open_regions) for export in via_exports(root)]


def _open(root: Path, path: Path, layout: str) -> DetectionSet:
    folder, rows = _rows(root, path)
    boxes = {file: [(label, _box(region.shape_attributes, where)) for label, region, where in labelled] for file, labelled in rows.items()}
    classes = sorted({label for labelled in boxes.values() for label, _ in labelled})
    return collect(folder, layout, classes, (_annotated(folder, file, labelled, classes) for file, labelled in sorted(boxes.items())))


def _open_regions(root: Path, path: Path, layout: str) -> RegionSet:
    folder, rows = _rows(root, path)
    images = tuple(
        RegionImage(
            file,
            *image_files.size_of(folder / file),
            tuple(Region(label, (_outline(region.shape_attributes, where),)) for label, region, where in labelled),
        )
        for file, labelled in sorted(rows.items())
    )
    return RegionSet(folder, layout, tuple(sorted({label for labelled in rows.values() for label, _, _ in labelled})), images)


def _rows(root: Path, path: Path) -> tuple[Path, dict[str, list[tuple[str, _Region, str]]]]:
    """Return the folder of the images, and the class, the region and the beginning of a message about it for all regions of each image."""
    found = _read_csv(path) if path.suffix == ".csv" else _read_json(path)
    folder = root / "images" if (root / "images").is_dir() else root
    files = Files(folder)
    attribute = _attribute(path, found)
    rows = {}
    for name, regions in found.items():
        where = [f"{path}: region {number} of {name[:SHOWN]}" for number, _ in enumerate(regions, 1)]
        labelled = [(_class(region, attribute, at), region, at) for region, at in zip(regions, where, strict=True)]
        file = files.require(name, path.name)
        if file in rows:
            raise BadData(f"{path} has {file[:SHOWN]} twice")
        rows[file] = labelled
    if not any(rows.values()):
        raise BadData(f"{path} has no region")
    return folder, rows


def _annotated(folder: Path, file: str, boxes: Iterable[tuple[str, Box]], classes: list[str]) -> tuple[DetectionImage, list[Annotation]]:
    annotations = [Annotation(box, classes.index(label) + 1, id=number) for number, (label, box) in enumerate(boxes)]
    return DetectionImage(file, file, *image_files.size_of(folder / file)), annotations


def _read_json(path: Path) -> dict[str, list[_Region]]:
    """Return the regions of each image in a project or in exported annotations."""
    content = read_text(path, at_most=BYTES)
    try:
        if '"_via_img_metadata"' in content:
            found = msgspec.json.decode(content, type=_Project).images
        else:
            found = msgspec.json.decode(content, type=dict[str, _Image])
    except DAMAGED as error:
        raise BadData(f"{path} is not a file of VIA ({error or type(error).__name__})") from None
    return _by_name(
        path, ((each.filename, list(each.regions.values() if isinstance(each.regions, dict) else each.regions)) for each in found.values())
    )


def _read_csv(path: Path) -> dict[str, list[_Region]]:
    """Return the regions of each image in exported annotations. An image without regions has a row without a shape."""
    found: dict[str, list[_Region]] = {}
    text = read_text(path, at_most=BYTES)
    try:
        for row in csv.DictReader(io.StringIO(text, newline="")):
            name = row.get("filename") or row.get("#filename")
            if not name or row.get("region_shape_attributes") is None or row.get("region_attributes") is None:
                raise BadData(f"{path} is not a file of VIA (a row has no filename, region_shape_attributes or region_attributes)")
            shape = msgspec.json.decode(row["region_shape_attributes"] or "{}", type=Shape)
            attributes = msgspec.json.decode(row["region_attributes"] or "{}", type=dict[str, Any])
            found.setdefault(name, []).extend([_Region(shape, attributes)] if shape else [])
    except DAMAGED as error:
        raise BadData(f"{path} is not a file of VIA ({error or type(error).__name__})") from None
    return _by_name(path, found.items())


def _by_name(path: Path, found: Iterable[tuple[str, list[_Region]]]) -> dict[str, list[_Region]]:
    images: dict[str, list[_Region]] = {}
    for name, regions in found:
        if name in images:
            raise BadData(f"{path} has {name[:SHOWN]} twice")
        images[name] = regions
    if not images:
        raise BadData(f"{path} has no image")
    return images


def _attribute(path: Path, found: Mapping[str, list[_Region]]) -> str:
    """Return the only attribute that regions have. Raises BadData if there is none, or more than one."""
    names = sorted({name for regions in found.values() for region in regions for name in region.region_attributes})
    if len(names) != 1:
        there = f"the attributes {', '.join(names)[:SHOWN]}" if names else "no attribute"
        raise BadData(f"{path}: the regions have {there}; keep one attribute, which names the class")
    return names[0]


def _class(region: _Region, attribute: str, where: str) -> str:
    value = region.region_attributes.get(attribute)
    if isinstance(value, dict):  # a checkbox
        chosen = [name for name, is_chosen in value.items() if is_chosen]
        value = chosen[0] if len(chosen) == 1 else ""
    if not isinstance(value, str) or not value.strip():
        raise BadData(f"{where} has no class, or several, as its {attribute[:SHOWN]}")
    return value.strip()


def _box(shape: Shape, where: str) -> Box:
    """Return the box around a shape."""
    kind = shape.get("name")
    if kind not in SHAPES:
        raise BadData(f'{where} is a "{str(kind)[:SHOWN]}"; only rectangles, polygons, circles and ellipses have boxes')
    with _coordinates(kind, where):
        if kind == "rect":
            x, y, width, height = _numbers(shape, "x", "y", "width", "height")
            box = (x, y, x + width, y + height)
        elif kind in ("circle", "ellipse"):
            x, y, first, second, angle = _ellipse(shape, kind)
            across = math.hypot(first * math.cos(angle), second * math.sin(angle))
            down = math.hypot(first * math.sin(angle), second * math.cos(angle))
            box = (x - across, y - down, x + across, y + down)
        else:
            xs, ys = _corners(shape)
            box = (min(xs), min(ys), max(xs), max(ys))
    return within_reach(box, where)


def _outline(shape: Shape, where: str) -> Polygon:
    """Return the outline of a shape."""
    kind = shape.get("name")
    with _coordinates(kind, where):
        if kind == "rect":
            x, y, width, height = _numbers(shape, "x", "y", "width", "height")
            return rectangle(x, y, x + width, y + height, where)
        if kind in ("circle", "ellipse"):
            return ellipse(*_ellipse(shape, kind), where)
        if kind == "polygon":
            return polygon(list(zip(*_corners(shape), strict=True)), where)
    raise BadData(f'{where} is a "{str(kind)[:SHOWN]}", which has no area; draw a polygon, or delete it')


@contextlib.contextmanager
def _coordinates(kind: Any, where: str) -> Iterator[None]:
    """Raise BadData in place of the errors of coordinates that are missing or are not numbers."""
    try:
        yield
    except (KeyError, TypeError, ValueError, OverflowError):
        raise BadData(f"{where} is a {kind} whose coordinates are missing or are not numbers") from None


def _ellipse(shape: Shape, kind: str) -> tuple[float, float, float, float, float]:
    """Return the centre, the half-axes and the angle in radians of a circle or an ellipse."""
    x, y = _numbers(shape, "cx", "cy")
    first, second = _numbers(shape, *(("r", "r") if kind == "circle" else ("rx", "ry")))
    return x, y, first, second, float(shape.get("theta") or 0)  # only an ellipse has an angle


def _corners(shape: Shape) -> tuple[list[float], list[float]]:
    xs, ys = ([float(value) for value in shape[name]] for name in ("all_points_x", "all_points_y"))
    return xs, ys


def _numbers(shape: Shape, *names: str) -> Iterator[float]:
    return (float(shape[name]) for name in names)
