"""PASCAL VOC: boxes in XML, masks in palette images, splits in lists.

The root may be the devkit with folders such as `VOC2007`, the folder that contains `VOCdevkit/`, the folder of one year, or any other
folder with `Annotations/` and `JPEGImages/`. VOC counts pixels from 1 and includes both ends of a box, so (xmin, ymin, xmax, ymax) becomes
(xmin - 1, ymin - 1, xmax, ymax). Areas and overlaps are then the same as in the devkit. A box whose xmax is not greater than xmin, or whose
ymax is not greater than ymin, counts as a box without area.

The classes are those of `classes.txt` if the folder has one, and otherwise VOC's twenty classes for the folder of a year.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from trickzoo.data import images as image_files
from trickzoo.data.boxes import DetectionSet, collect
from trickzoo.data.exports import ALL
from trickzoo.data.listing import CLASS_LIST, EVERY, by_stem, images_by_stem, read_classes, read_split, visible
from trickzoo.data.masks import IGNORE, SegmentationSet
from trickzoo.data.objects import Annotation, DetectionImage, side, turned, within_reach
from trickzoo.data.readers.mask_lists import read_mask_classes
from trickzoo.errors import BadData, BadOption, nearest
from trickzoo.files import read_regular
from trickzoo.wording import count

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

T = TypeVar("T")

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
BACKGROUND = "background"
YEAR = re.compile(r"VOC(20\d\d)")
LONGEST = 80
"""How many characters of a name a message shows."""
MAX_XML = 16 * 2**20
"""How many bytes an annotation may have. A larger one is refused before it is parsed."""
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def open_voc(root: Path, split: str = "train", *, year: str | None = None, classes: tuple[str, ...] | None = None) -> DetectionSet:
    """Open images with boxes in VOC's XML.

    Args:
        root: the devkit, the folder that contains `VOCdevkit/`, the folder of one year, or any folder with `Annotations/` and
            `JPEGImages/`.
        split: a list in `ImageSets/Main`, such as train, val, trainval or test; or "all".
        year: "2007", "2012", or "07+12" for both. It is required if there are several years.
        classes: the names of labels 1, 2, …. By default those of `classes.txt` beside `Annotations/`, without a leading background; without
            that file, VOC's twenty classes for the folder of a year, and for any other folder the sorted names in the annotations of all
            splits.

    Raises BadData, with the path of the file, if a folder or a file is missing or an annotation is not valid; BadOption for a year that
    does not exist.
    """
    found = year_folders(root, year)
    for folder in found:
        if not (folder / "Annotations").is_dir():
            raise BadData(f"{folder} has no Annotations/; put the XML files with the boxes there")
    if classes is None:
        classes = _agreed(found, _box_classes)
    label_of = {name: label for label, name in enumerate(classes, 1)}
    base = found[0] if len(found) == 1 else found[0].parent
    annotated = (pair for folder in found for pair in _annotated(folder, folder.relative_to(base), split, label_of))
    return collect(base, " + ".join(f"{folder.name} {split}" for folder in found), classes, annotated)


def open_voc_masks(root: Path, split: str = "train", *, year: str | None = None) -> SegmentationSet:
    """Open images with masks as in VOC's semantic segmentation: 21 classes with the background. Borders of objects (255) are not judged.

    If a folder has `classes.txt`, it names the classes, the background first, as for `open_lists`. The folder of a year needs no such file;
    any other folder does. Images without a mask in `SegmentationClass` use that in `SegmentationClassAug`, if that folder exists.

    Args:
        root: as for `open_voc`.
        split: a list in `ImageSets/Segmentation`.
        year: as for `open_voc`.

    Raises BadData if a list, an image or a mask is missing, or if the classes are not named; BadOption for a year that does not exist.
    """
    found = year_folders(root, year)
    base = found[0] if len(found) == 1 else found[0].parent
    classes, ignored = _agreed(found, _mask_classes)
    pairs = []
    for folder in found:
        below = folder.relative_to(base)
        photographs = images_by_stem(folder / "JPEGImages", pattern=EVERY)
        masks = {
            stem: below / kind / name
            for kind in ("SegmentationClassAug", "SegmentationClass")
            if kind == "SegmentationClass" or (folder / kind).is_dir()
            for stem, name in images_by_stem(folder / kind, pattern=EVERY).items()
        }
        for stem in read_split(folder / "ImageSets" / "Segmentation", split, photographs):
            if stem not in photographs:
                raise BadData(f"{folder / 'JPEGImages'} has no image {stem}, but ImageSets/Segmentation/{split}.txt lists it")
            if stem not in masks:
                raise BadData(f"{folder / 'SegmentationClass'} has no mask {stem}, but ImageSets/Segmentation/{split}.txt lists it")
            pairs.append(((below / "JPEGImages" / photographs[stem]).as_posix(), masks[stem].as_posix()))
    layout = " + ".join(f"{folder.name} {split}" for folder in found)
    return SegmentationSet(base, layout, classes, tuple(pairs), ignored=(*ignored, IGNORE))


def year_folders(root: Path, year: str | None) -> list[Path]:
    """Return the folders of the given years, or the only folder. Raises BadData if one is missing, or if a year has to be named."""
    if not root.is_dir():
        raise BadData(f"{root} is not a folder")
    if year is not None and not re.fullmatch(r"(20)?\d\d(\+(20)?\d\d)*", year):
        raise BadOption(f'VOC has no year "{year}"; write one such as 2007, 2012 or 07+12')
    wanted = [f"VOC20{part[-2:]}" for part in year.split("+")] if year else []
    if (root / "JPEGImages").is_dir():
        if wanted and wanted != [root.name]:
            raise BadData(f"{root} is not {' and '.join(wanted)}; leave the year out, or pass the folder that holds VOCdevkit/")
        return [root]
    devkit = root / "VOCdevkit" if (root / "VOCdevkit").is_dir() else root
    there = sorted(path.name for path in devkit.iterdir() if YEAR.fullmatch(path.name) and path.is_dir())
    if not there:
        raise BadData(f"{root} is not a folder of VOC; it must contain VOCdevkit/VOC2012 or another year, or Annotations/ and JPEGImages/")
    if not wanted and len(there) > 1:
        raise BadData(f"{devkit} has {', '.join(there)}; name the year: {there[0][3:]}, or 07+12 for both")
    missing = [name for name in wanted if name not in there]
    if missing:
        raise BadData(f"{devkit} has no {missing[0]}, only {', '.join(there)}; name the year {there[0][3:]}, or add the other")
    return [devkit / name for name in wanted or there]


def _is_year(folder: Path) -> bool:
    """Return whether a folder has the name of one of VOC's years. It then has VOC's classes unless `classes.txt` names others."""
    return YEAR.fullmatch(folder.absolute().name) is not None


def _annotated(folder: Path, below: Path, split: str, label_of: dict[str, int]) -> Iterator[tuple[DetectionImage, list[Annotation]]]:
    photographs = images_by_stem(folder / "JPEGImages", pattern=EVERY)
    xmls = by_stem(folder / "Annotations", {".xml"}, pattern=EVERY)
    main = folder / "ImageSets" / "Main"
    if split == ALL and not (main / f"{ALL}.txt").is_file():
        stems = sorted(xmls)
    elif main.is_dir():
        stems = read_split(main, split, photographs)
    else:
        raise BadData(f'{main} does not exist; write {split}.txt into it, one name per line, or ask for the split "{ALL}"')
    for stem in stems:
        if stem not in photographs:
            raise BadData(f"{folder / 'JPEGImages'} has no image {stem[:LONGEST]}, and the split {split} has it")
        xml = folder / "Annotations" / xmls.get(stem, f"{stem}.xml")
        name = (below / "JPEGImages" / photographs[stem]).as_posix()
        yield read_annotation(xml, folder / "JPEGImages" / photographs[stem], name, stem, label_of)


def read_annotation(xml: Path, path: Path, name: str, stem: str, label_of: dict[str, int]) -> tuple[DetectionImage, list[Annotation]]:
    """Return the image in the file `path` with the objects that `xml` states.

    Args:
        xml: the annotation.
        path: the image.
        name: the path of the image relative to the root of its set.
        stem: the id of the image.
        label_of: the label of each class.

    Raises BadData if the annotation is not valid.
    """
    root = parse(xml)
    size = root.find("size")
    width, height = (side(_number(size, each, xml, "size", default=0), f"{xml}: size") for each in ("width", "height"))
    if not width or not height:
        width, height = image_files.size_of(path)
    image = DetectionImage(name, stem, width, height)
    return image, [_object(node, place, xml, label_of) for place, node in enumerate(root.findall("object"))]


def _object(node: Element, place: int, xml: Path, label_of: dict[str, int]) -> Annotation:
    where = f"object {place + 1}"
    name = (node.findtext("name") or "").strip()
    if not name:
        raise BadData(f"{xml}: {where} has no name")
    if name not in label_of:
        own = f", and there is no {xml.parent.parent / CLASS_LIST} with others" if tuple(label_of) == CLASSES else ""
        near = nearest(name, label_of)
        raise BadData(f'{xml}: {where} is a "{name[:LONGEST]}", which is not among the {count(len(label_of), "class")}{own}{near}')
    box = node.find("bndbox")
    if box is None:
        raise BadData(f"{xml}: {where} has no bndbox")
    x0, y0, x1, y1 = (_number(box, corner, xml, where) for corner in CORNERS)
    from_one = (x0 - 1, y0 - 1, x1 if x1 > x0 else x1 - 1, y1 if y1 > y0 else y1 - 1)
    within_reach(from_one, f"{xml}: {where}")
    difficult = _number(node, "difficult", xml, where, default=0) != 0
    return Annotation(turned(from_one, _rotation(node)), label_of[name], difficult=difficult, id=place)


def _rotation(node: Element) -> str | None:
    """Return the angle in degrees that CVAT states for a rectangle, whose box is that before it was turned; None if there is none."""
    stated = (each.findtext("value") for each in node.findall("attributes/attribute") if each.findtext("name") == "rotation")
    return next(stated, None)


def _number(node: Element | None, field: str, xml: Path, where: str, *, default: float | None = None) -> float:
    text = node.findtext(field) if node is not None else None
    if text is None or not text.strip():
        if default is None:
            raise BadData(f"{xml}: {where} has no {field}")
        return default
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not isfinite(number):
        raise BadData(f'{xml}: {field} of {where} is "{text.strip()[:40]}", not a number')
    return number


def parse(xml: Path) -> Element:
    """Return the root of an annotation.

    Raises BadData if it is not well-formed, is not an annotation, or declares a document type or entities.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        if xml.stat().st_size > MAX_XML:
            raise BadData(f"{xml} has more than {MAX_XML:,} bytes; no annotation is that long")
        root = fromstring(read_regular(xml), forbid_dtd=True)
    except OSError as error:
        raise BadData(f"{xml} cannot be read ({error.strerror})") from None
    except DefusedXmlException as error:
        raise BadData(f"{xml} declares a document type or entities ({type(error).__name__}); no annotation needs them, remove it") from None
    except (ParseError, ValueError, LookupError) as error:
        raise BadData(f"{xml} is not well-formed XML ({error})") from None
    if root.tag != "annotation":
        raise BadData(f"{xml} is a <{root.tag}>, not an <annotation> as VOC defines it")
    return root


def _agreed(folders: Sequence[Path], classes_of: Callable[[Path], T]) -> T:
    """Return the classes of the folders of several years. Raises BadData if they differ."""
    first, *others = (classes_of(folder) for folder in folders)
    for folder, other in zip(folders[1:], others, strict=True):
        if other != first:
            raise BadData(f"{folders[0]} and {folder} have different classes; give both the same {CLASS_LIST}")
    return first


def _box_classes(folder: Path) -> tuple[str, ...]:
    """Return the classes in the folder's list, or VOC's own for the folder of a year, or all that the annotations name."""
    if (folder / CLASS_LIST).is_file():
        listed = read_classes(folder / CLASS_LIST)
        return listed[1:] if listed[0] == BACKGROUND else listed
    if _is_year(folder):
        return CLASSES
    return classes_in(visible(folder / "Annotations", "**/*.xml"), folder / "Annotations", folder)


def classes_in(xmls: Iterable[Path], place: Path, folder: Path) -> tuple[str, ...]:
    """Return the sorted names of the objects in annotations.

    Raises BadData if there are none; the message names the `place` of the annotations and the `folder` for a list of classes.
    """
    names: set[str] = set()
    for xml in xmls:
        names.update(name.strip() for node in parse(xml).findall("object") if (name := node.findtext("name")))
    if not names:
        raise BadData(f"the files in {place} annotate no object; list the classes in {folder / CLASS_LIST}, one per line")
    return tuple(sorted(names))


def _mask_classes(folder: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the classes in the folder's list, or VOC's own for the folder of a year, and the mask values that are not judged."""
    path = folder / CLASS_LIST
    if not path.is_file():
        if _is_year(folder):
            return (BACKGROUND, *CLASSES), ()
        raise BadData(f"{folder} is not a folder of VOC; list the classes of its masks in {path}, one per line, {BACKGROUND} first")
    classes, ignored = read_mask_classes(path)
    if classes == CLASSES and _is_year(folder):  # the list is one for boxes, with VOC's own classes
        return (BACKGROUND, *CLASSES), ()
    if classes[:1] != (BACKGROUND,):  # with a list for boxes, which has no background, each value would get the name of the next class
        raise BadData(f"{path} does not begin with {BACKGROUND}, which is 0 in VOC's masks; put it first")
    return classes, ignored
