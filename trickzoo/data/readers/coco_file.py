"""The content of a JSON file in COCO's format, and the images with boxes or with regions that it describes.

Categories and images are identified by their ids, which may be any whole numbers or words. A width or height that is missing or not
positive is read from the image. An object with `"ignore": 1` is treated as VOC's difficult objects are: it is neither trained on nor
judged.
"""

from __future__ import annotations

import codecs
import functools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from trickzoo.data import images as image_files
from trickzoo.data.boxes import DetectionSet, collect
from trickzoo.data.listing import Files
from trickzoo.data.objects import Annotation, DetectionImage, side, turned, within_reach
from trickzoo.data.regions import Region, RegionImage, RegionSet, pixels_of_runs, polygon
from trickzoo.errors import BadData
from trickzoo.files import read_regular

DAMAGED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MemoryError)
"""The errors that the decoder raises for a file that is not in COCO's format."""
WHOLE = re.compile(r"-?\d{1,18}")
SHOWN = 40
"""How many characters of an id a message shows."""
Id = int | float | str
Flag = bool | int | float | None


class _Image(msgspec.Struct, gc=False):
    id: Id
    file_name: str
    width: Id | None = None
    height: Id | None = None


class _Annotation(msgspec.Struct, gc=False):
    image_id: Id
    category_id: Id
    bbox: tuple[float, float, float, float]
    id: Id | None = None
    area: float | None = None
    iscrowd: Flag = None
    ignore: Flag = None
    attributes: Any = None
    segmentation: msgspec.Raw = msgspec.Raw(b"null")  # decoded only if it is used


class _Category(msgspec.Struct, gc=False):
    id: Id
    name: str
    supercategory: str | None = None


class _Lists(msgspec.Struct):
    """The three lists of a file, which are not decoded."""

    images: msgspec.Raw
    annotations: msgspec.Raw
    categories: msgspec.Raw


class Content(msgspec.Struct):
    """The content of a file, as far as it is used."""

    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def is_coco(path: Path) -> bool:
    """Return whether a JSON file has the three lists of COCO's format."""
    try:
        msgspec.json.decode(_content(path), type=_Lists)
    except (BadData, *DAMAGED):
        return False
    return True


def _content(path: Path) -> bytes:
    try:
        content = read_regular(path)
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return content.decode("utf-16").encode()
        return content.removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise BadData(f"{path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise BadData(f"{path} begins like UTF-16 but cannot be decoded; save it as UTF-8") from None


def decode(annotations: Path) -> Content:
    """Return the content of a file. Raises BadData if it does not have COCO's format, or has no image or no category."""
    try:
        content = msgspec.json.decode(_content(annotations), type=Content)
    except DAMAGED as error:
        raise BadData(f"{annotations} is not in COCO's format ({error or type(error).__name__})") from None
    if not content.images:
        raise BadData(f"{annotations} has no image")
    if not content.categories:
        raise BadData(f"{annotations} has no category")
    return content


def to_set(annotations: Path, content: Content, images: Path | None, layout: str, remedy: str = "") -> DetectionSet:
    """Return the set in the content of a file. `images` is the folder of its images; None if they need not exist.

    `remedy` is the end of the message for an image that is not in this folder. Raises BadData as `coco.read_coco` does.
    """
    label_of, categories = _categories(annotations, content)
    entries = _images(annotations, content.images, images, remedy)
    numbers = _numbers(annotations, content.annotations)
    found: dict[int | str, list[Annotation]] = {number: [] for number in entries}
    placed = _placed(annotations, content.annotations, entries, label_of)
    for number, (one, image, category, where) in zip(numbers, placed, strict=True):
        x, y, width, height = one.bbox
        box = turned(within_reach((x, y, x + width, y + height), where), _rotation(one.attributes))
        area = one.area if one.area is not None and one.area > 0 else None  # some tools write 0 for an unknown area
        flags = {"difficult": bool(one.ignore), "crowd": bool(one.iscrowd)}
        found[image].append(Annotation(box, label_of[category], area=area, id=number, **flags))
    _check_sides(annotations, content.annotations, entries)
    pairs = ((entry, found[number]) for number, entry in entries.items())
    names, ids = [name for _, name in categories], [number for number, _ in categories]
    return collect(images or annotations, layout, names, pairs, class_ids=ids, files=images is not None)


def to_regions(annotations: Path, content: Content, images: Path, layout: str, remedy: str = "") -> RegionSet:
    """Return the regions in the content of a file. The arguments are those of `to_set`.

    Raises BadData as `coco.read_coco` does, and for an object that has no outline, or one that cannot be drawn.
    """
    label_of, categories = _categories(annotations, content)
    entries = _images(annotations, content.images, images, remedy)
    names = [name for _, name in categories]
    found: dict[int | str, list[Region]] = {number: [] for number in entries}
    for one, image, category, where in _placed(annotations, content.annotations, entries, label_of):
        found[image].append(_region(one.segmentation, names[label_of[category] - 1], entries[image], where))
    return RegionSet(
        images,
        layout,
        tuple(names),
        tuple(RegionImage(entry.name, entry.width, entry.height, tuple(found[number])) for number, entry in entries.items()),
    )


def _region(content: msgspec.Raw, label: str, image: DetectionImage, where: str) -> Region:
    """Return the region in the `segmentation` of an annotation."""
    try:
        stated = msgspec.json.decode(content)
    except DAMAGED as error:
        raise BadData(f"{where} has a segmentation that cannot be read ({error or type(error).__name__})") from None
    if isinstance(stated, dict):
        return Region(label, pixels=functools.partial(pixels_of_runs, stated, image.width, image.height, where))
    if not isinstance(stated, list) or not stated:
        raise BadData(f"{where} has a box but no outline; draw its polygon, or delete it")
    parts = stated if isinstance(stated[0], list) else [stated]  # some tools write the only polygon without a list
    return Region(label, tuple(polygon(part, where) for part in parts))


def _placed(
    annotations: Path, rows: Sequence[_Annotation], entries: Mapping[int | str, DetectionImage], label_of: Mapping[int | str, int]
) -> Iterator[tuple[_Annotation, int | str, int | str, str]]:
    """Yield each annotation, the ids of its image and of its category, and the beginning of a message about it.

    Raises BadData for an id that the file does not have.
    """
    for place, one in enumerate(rows, 1):
        where = f"{annotations}: annotation {_shown(one.id if one.id is not None else place)}"
        image, category = identity(one.image_id, where), identity(one.category_id, where)
        for kind, number, known in (("image", image, entries), ("category", category, label_of)):
            if number not in known:
                raise BadData(f"{where} is of {kind} {_shown(number)}, which the file does not have")
        yield one, image, category, where


def _rotation(attributes: Any) -> Any:
    """Return the angle in degrees that CVAT states for a rectangle, whose box is that before it was turned; None if there is none."""
    return attributes.get("rotation") if isinstance(attributes, dict) else None


def _check_sides(annotations: Path, rows: Sequence[_Annotation], entries: Mapping[int | str, DetectionImage]) -> None:
    """Raise BadData if the boxes are corners (x0, y0, x1, y1), where COCO has x, y, width and height.

    They are taken for corners if all would be boxes within their images as corners, and if the areas are those of the corners, or half of
    the boxes extend beyond their image by more than a tenth of its side otherwise.
    """
    beyond = by_area = 0
    for one in rows:
        (x0, y0, x1, y1), image = one.bbox, entries[identity(one.image_id, str(annotations))]
        if not (x0 < x1 <= image.width and y0 < y1 <= image.height):
            return
        beyond += x0 + x1 > 1.1 * image.width or y0 + y1 > 1.1 * image.height
        corners = (x1 - x0) * (y1 - y0)
        by_area += one.area is not None and abs(one.area - corners) <= 1e-3 * corners < 1e-2 * (x1 * y1 - corners)
    if rows and (by_area == len(rows) or 2 * beyond >= len(rows)):
        raise BadData(f"{annotations}: the boxes look like corners x0, y0, x1, y1; COCO's bbox is x, y, width, height, so convert them")


def _categories(annotations: Path, content: Content) -> tuple[dict[int | str, int], list[tuple[int | str, str]]]:
    """Return the label of each category's id, and (id, name) of all categories sorted by id.

    Raises BadData if an id or a name occurs twice.
    """
    where = f"{annotations}: a category"
    categories = sorted(((identity(one.id, where), one.name.strip()) for one in _used(content)), key=lambda one: _order(one[0]))
    _check_unique_ids(annotations, "categories", [number for number, _ in categories])
    id_of: dict[str, int | str] = {}
    for number, name in categories:
        if not name:
            raise BadData(f"{annotations}: category {_shown(number)} has no name")
        if (other := id_of.setdefault(name, number)) != number:
            used = Counter(identity(one.category_id, str(annotations)) for one in content.annotations)
            objects = " and ".join(f"{used[each]:,}" for each in (other, number))
            raise BadData(
                f'{annotations}: categories {_shown(other)} and {_shown(number)} are both called "{name}" and have {objects} objects; '
                "rename one, or remove the one without objects"
            )
    return {number: label for label, (number, _) in enumerate(categories, 1)}, categories


def _used(content: Content) -> list[_Category]:
    """Return the categories without the first one of Roboflow, which only names the group of the others and has no object."""
    groups = {one.supercategory for one in content.categories if one.supercategory != one.name}
    used = {identity(one.category_id, "an annotation") for one in content.annotations}
    return [
        one
        for one in content.categories
        if not (one.supercategory == "none" and one.name in groups and identity(one.id, "a category") not in used)
    ]


def _images(annotations: Path, stated: Sequence[_Image], folder: Path | None, remedy: str) -> dict[int | str, DetectionImage]:
    """Return the images by their ids, sorted by id."""
    files, entries = None if folder is None else Files(folder, remedy), {}
    by_id = sorted(((identity(image.id, f"{annotations}: an image"), image) for image in stated), key=lambda one: _order(one[0]))
    _check_unique_ids(annotations, "images", [number for number, _ in by_id])
    id_of: dict[str, int | str] = {}
    for number, image in by_id:
        where = f"{annotations}: image {_shown(number)}"
        name = image.file_name if files is None else files.require(image.file_name, annotations.name)
        if (other := id_of.setdefault(name, number)) != number:
            raise BadData(f"{annotations}: images {_shown(other)} and {_shown(number)} are both {name}; give their annotations one id")
        width, height = (_side(value, where) for value in (image.width, image.height))
        if folder is not None and not (width and height):
            width, height = image_files.size_of(folder / name)
        entries[number] = DetectionImage(name, number, width, height)
    return entries


def _numbers(annotations: Path, rows: Sequence[_Annotation]) -> Sequence[int]:
    """Return the ids of the annotations, or their places in the file if an id is missing or is not a 64-bit number.

    The ids only tell annotations apart. Raises BadData if two annotations have the same id.
    """
    ids = [identity(one.id, f"{annotations}: an annotation") for one in rows if one.id is not None]
    _check_unique_ids(annotations, "annotations", ids)
    numbers = [number for number in ids if isinstance(number, int) and -(2**63) <= number < 2**63]
    return numbers if len(numbers) == len(rows) else range(len(rows))


def identity(value: Id, where: str) -> int | str:
    """Return an id in one form, because 7, 7.0 and "7" are the same. Raises BadData for a number that is not whole."""
    if isinstance(value, float):
        if not value.is_integer():
            raise BadData(f"{where} has the id {value:g}; an id must be a whole number or a text")
        return int(value)
    return int(value) if isinstance(value, str) and WHOLE.fullmatch(value) else value


def _side(value: Id | None, where: str) -> int:
    """Return a width or height in pixels, or 0 if the file states none. Raises BadData if it is not a number of pixels."""
    if isinstance(value, str):
        if not WHOLE.fullmatch(value):
            raise BadData(f'{where} has a side of "{_shown(value)}", not a number of pixels')
        value = int(value)
    return 0 if value is None else side(value, where)


def _order(number: int | str) -> tuple[bool, Any]:
    """Return the sorting key of an id: numbers by their value, then words."""
    return isinstance(number, str), number


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _check_unique_ids(annotations: Path, kind: str, ids: Sequence[int | str]) -> None:
    seen: set[int | str] = set()
    for number in ids:
        if number in seen:
            raise BadData(f"{annotations}: two {kind} have the id {_shown(number)}")
        seen.add(number)
