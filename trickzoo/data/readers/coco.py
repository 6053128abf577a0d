"""COCO's detection data: `annotations/instances_{split}{year}.json` beside the folder of the images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec

from trickzoo.data.boxes import Annotation, DetectionImage, DetectionSet, collect
from trickzoo.data.listing import below
from trickzoo.errors import BadData, BadOption
from trickzoo.files import read_regular


class _Image(msgspec.Struct):
    id: int
    file_name: str
    width: int
    height: int


class _Annotation(msgspec.Struct):
    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float | None = None
    iscrowd: int = 0


class _Category(msgspec.Struct):
    id: int
    name: str


class _File(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def open_coco(root: Path, split: str = "train", *, year: str = "2017") -> DetectionSet:
    """COCO's own folder: `annotations/` with `train2017/`, `val2017/` beside it or in `images/`. Raises BadData with what is wrong."""
    if not year.isdecimal():
        raise BadOption(f'no year "{year}" of COCO; 2014 and 2017 are the ones with boxes')
    annotations = root / "annotations" / f"instances_{split}{year}.json"
    if not annotations.is_file():
        there = sorted(path.name for path in (root / "annotations").glob("instances_*.json"))
        raise BadData(
            f"{annotations} is not there; {'there are ' + ', '.join(there) if there else 'pass the folder that has annotations/'}"
        )
    folders = [folder for folder in (root / f"{split}{year}", root / "images" / f"{split}{year}") if folder.is_dir()]
    if not folders:
        raise BadData(f"{root} has no folder {split}{year} or images/{split}{year} of the images in {annotations.name}")
    return read_coco(annotations, folders[0])


def read_coco(annotations: Path, images: Path) -> DetectionSet:
    """A json file in COCO's format and the folder of its images.

    Images and classes come in the order of their ids. Raises BadData for a file that is not as COCO defines it, for ids that occur twice or
    lead nowhere, and for images that are not there.
    """
    try:
        content = msgspec.json.decode(read_regular(annotations), type=_File)
    except OSError as error:
        raise BadData(f"{annotations} cannot be read ({error.strerror})") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadData(f"{annotations} is not in COCO's format ({error})") from None
    for kind in ("images", "annotations", "categories"):
        _ids_are_unique(annotations, kind, getattr(content, kind))
    if not content.images:
        raise BadData(f"{annotations} has no image")
    if not content.categories:
        raise BadData(f"{annotations} has no category")
    present = {path.relative_to(images).as_posix() for path in images.rglob("*")} if images.is_dir() else set()
    categories = sorted(content.categories, key=lambda category: category.id)
    label_of = {category.id: label for label, category in enumerate(categories, 1)}
    entries = {}
    for image in sorted(content.images, key=lambda image: image.id):
        name = below(images, image.file_name, str(annotations))
        if name not in present:
            raise BadData(f"{images / name} is not there, and {annotations.name} lists it")
        if image.width < 1 or image.height < 1:
            raise BadData(f"{annotations}: image {image.id} is {image.width} × {image.height} pixels")
        entries[image.id] = DetectionImage(name, image.id, image.width, image.height)
    found: dict[int, list[Annotation]] = {number: [] for number in entries}
    for one in content.annotations:
        for kind, number, known in (("image", one.image_id, entries), ("category", one.category_id, label_of)):
            if number not in known:
                raise BadData(f"{annotations}: annotation {one.id} is of {kind} {number}, which the file does not have")
        x, y, width, height = one.bbox
        if not all(map(isfinite, one.bbox)) or (one.area is not None and not isfinite(one.area)):
            raise BadData(f"{annotations}: annotation {one.id} has a number that is not finite")
        box = (x, y, x + width, y + height)
        found[one.image_id].append(Annotation(box, label_of[one.category_id], crowd=bool(one.iscrowd), area=one.area, id=one.id))
    return collect(
        images,
        annotations.name,
        [category.name for category in categories],
        _pairs(entries, found),
        class_ids=[category.id for category in categories],
    )


def _pairs(entries: dict[int, DetectionImage], found: dict[int, list[Annotation]]) -> Iterator[tuple[DetectionImage, list[Annotation]]]:
    return ((entry, found[number]) for number, entry in entries.items())


def _ids_are_unique(annotations: Path, kind: str, rows: Iterable[Any]) -> None:
    seen: set[int] = set()
    for row in rows:
        if row.id in seen:
            raise BadData(f"{annotations}: two {kind} have the id {row.id}")
        seen.add(row.id)
