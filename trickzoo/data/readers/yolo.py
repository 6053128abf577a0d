"""Boxes in YOLO's text files: one file for each image, with a line "class x y width height" for each object.

All values are fractions of the image, and x and y are those of the centre of the box. Of a polygon, "class x1 y1 x2 y2 x3 y3 …", the box
around it is taken. An image without a text file has no objects. The following layouts are read:

- `data.yaml` with the folders or lists of images of each split and the names of the classes, as Ultralytics, Roboflow and CVAT write it.
  The text file of `…/images/…/a.jpg` is `…/labels/…/a.txt`, or lies beside the image;
- `obj.data`, `obj.names`, `train.txt` and `obj_train_data/`, as CVAT's "YOLO 1.1" has them;
- `classes.txt` with `images/` and `labels/`, as Label Studio exports it, which may have folders of splits in them, or with images and text
  files in one folder, as LabelImg writes them.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import yaml

from trickzoo.data import images as image_files
from trickzoo.data.boxes import DetectionSet, collect
from trickzoo.data.exports import ALL, Export, by_split, folders_of_splits
from trickzoo.data.images import is_image_name
from trickzoo.data.layouts import split_of
from trickzoo.data.listing import CLASS_LIST, Files, check_unique, read_classes, read_lines, read_text, visible, warn
from trickzoo.data.objects import Annotation, Box, DetectionImage
from trickzoo.data.regions import Region, RegionImage, RegionSet, polygon
from trickzoo.errors import BadData
from trickzoo.files import read_regular
from trickzoo.wording import count

CONFIGURATIONS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
BEYOND = 0.01
"""How far a box may extend beyond its image, as a fraction of the image, as Ultralytics allows it."""
MAX_YAML, MAX_LABELS = 128 << 10, 16 << 20
"""How many bytes a configuration and a text file of labels may have."""
MOST_CLASSES = 100_000
SHOWN = 40
"""How many characters of a value a message shows."""

Find = Callable[[Files], Sequence[str]]
"""Returns the paths of the images of a split, relative to the root."""
Object: TypeAlias = tuple[int, str, int, list[float]]
"""The number of a line, the beginning of a message about it, the number of its class, and its values, as fractions of the image."""


def yolo_exports(root: Path) -> list[Export]:
    """Return the exports in YOLO's text files that a folder contains. Raises BadData for a configuration that cannot be read."""
    if configuration := next((root / name for name in CONFIGURATIONS if (root / name).is_file()), None):
        return [_with_yaml(root, configuration)]
    if (root / "obj.data").is_file():
        return [_with_obj_data(root, root / "obj.data")]
    if not (root / CLASS_LIST).is_file():
        return []
    folder = "images" if (root / "images").is_dir() and (root / "labels").is_dir() else ""
    if not folder and not any(path.name != CLASS_LIST for path in visible(root, "*.txt")):
        return []
    if not folder and not any(map(is_image_name, visible(root))):
        return []
    tool = "Label Studio" if (root / "notes.json").is_file() else "LabelImg" if not folder else "classes.txt and"
    inside = {split: f"{folder}/{place.name}" for split, place in folders_of_splits(root / folder).items()} if folder else {}
    if any(map(is_image_name, visible(root / folder))):
        inside = {}
    openers = {
        split: functools.partial(
            _open, root, functools.partial(_in_folder, folder=place), lambda: read_classes(root / CLASS_LIST), root / CLASS_LIST
        )
        for split, place in (inside or {ALL: folder}).items()
    }
    return [Export(f"{tool} YOLO export", "yolo", root / CLASS_LIST, openers)]


def yolo_regions(root: Path) -> list[Export]:
    """Return the exports of `yolo_exports`, which open the polygons, as `RegionSet`, in place of their boxes."""
    return [export.opened_by(_open_regions) for export in yolo_exports(root)]


def _with_yaml(root: Path, path: Path) -> Export:
    """Return the export of a configuration, which is read for the splits that it names."""
    content = _read_yaml(path)
    if "kpt_shape" in content:
        raise BadData(f"{path} has keypoints (kpt_shape), which are not boxes; export the set for detection")
    places = {key: place for key, place in content.items() if isinstance(key, str) and split_of(key) and place}
    if not places:
        raise BadData(f"{path} names no images; it has no train, val or test")
    base = content.get("path") or ""
    openers = {
        split: functools.partial(_open, root, functools.partial(_of_places, path=path, base=base, places=place), lambda: _names(path), path)
        for split, place in by_split(path, places.items()).items()
    }
    tool = "Roboflow" if "roboflow" in content else "Ultralytics"
    return Export(f"{tool} YOLO export", "yolo", path, openers)


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses aliases, with which a small file can stand for a huge one."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias, which no configuration of YOLO needs")
        return super().compose_node(parent, index)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(read_regular(path, at_most=MAX_YAML), _Loader)
    except OSError as error:
        raise BadData(f"{path} cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, OverflowError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadData(f"{path} is not YAML ({reason})") from None
    if not isinstance(content, dict):
        raise BadData(f"{path} is not a configuration of YOLO, with train, val and names")
    return content


def _names(path: Path) -> tuple[str, ...]:
    """Return the classes that a configuration names, in the order of their numbers."""
    content = _read_yaml(path)
    names = content.get("names")
    if isinstance(names, dict):
        names = {
            int(key) if isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 9 else key: names[key] for key in names
        }
        if sorted(map(repr, names)) != sorted(repr(number) for number in range(len(names))):
            raise BadData(f"{path}: the numbers of names are not 0 to {len(names) - 1}")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names or len(names) > MOST_CLASSES or not all(_is_name(name) for name in names):
        raise BadData(f"{path}: names is not a list of class names; write names such as yes, no or 1 in quotes")
    if str(content.get("nc", len(names))) != str(len(names)):
        raise BadData(f"{path} states nc: {str(content['nc'])[:SHOWN]} and {len(names)} names")
    check_unique([str(name) for name in names], path)
    return tuple(str(name) for name in names)


def _is_name(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _with_obj_data(root: Path, path: Path) -> Export:
    """Return the export of an `obj.data`, with lines such as "train = data/train.txt"."""
    parts = (line.partition("=") for line in read_lines(path))
    content = {key.strip(): value.strip() for key, _, value in parts}
    lists = {key: place for key, place in content.items() if split_of(key) and place}
    if not lists or not content.get("names"):
        raise BadData(f"{path} has no train or no names; take the file that CVAT exports")
    files = Files(root)

    def classes() -> tuple[str, ...]:
        return read_classes(root / files.require(_found(files, content["names"]), path.name))

    openers = {
        split: functools.partial(_open, root, functools.partial(_of_places, path=path, base="", places=place), classes, path)
        for split, place in by_split(path, lists.items()).items()
    }
    return Export("CVAT YOLO 1.1 export", "yolo", path, openers)


def _of_places(files: Files, *, path: Path, base: Any, places: Any) -> Sequence[str]:
    """Return the images of folders and lists that a configuration in the file `path` names."""
    names: list[str] = []
    for place in places if isinstance(places, list) else [places]:
        if not isinstance(place, str):
            raise BadData(f"{path}: {str(place)[:SHOWN]} is neither a folder nor a list of images")
        found = _found(files, place, str(base))
        if found.endswith(".txt"):
            listed = read_lines(files.root / files.require(found, path.name))
            names += [files.require(_found(files, line, str(base)), found) for line in listed]
        else:
            names += _in_folder(files, found, path)
    check_unique(names, path)
    return names


def _found(files: Files, name: str, base: str = "") -> str:
    """Return a path of a configuration or list relative to the root.

    Tools write paths for the folder in which the training is started: "../train/images" (Roboflow), "data/train.txt" (CVAT), or below
    "path" (Ultralytics). Parts at the beginning are left out until a file or folder of that name exists, but no name of a split: without
    it, "train/images" would be the images of all splits.
    """
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    prefix = [part for part in PurePosixPath(base.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    shorter = [parts[start:] for start in range(len(parts)) if not any(map(split_of, parts[:start]))]
    for candidate in ([*prefix, *parts], *shorter):
        if candidate and os.path.exists(files.root / Path(*candidate)):
            return "/".join(candidate)
    return "/".join(parts)


def _in_folder(files: Files, folder: str, path: Path | None = None) -> Sequence[str]:
    """Return the images in a folder below the root and in the folders in it, without those of other folders that links lead to."""
    place = files.root / folder
    if not place.is_dir():
        raise BadData(f"{place} does not exist, but {path.name if path else CLASS_LIST} names it")
    return [path.relative_to(files.root).as_posix() for path in visible(place, "**/*") if is_image_name(path) and path.is_file()]


def _open(root: Path, find: Find, names: Callable[[], tuple[str, ...]], source: Path, layout: str) -> DetectionSet:
    labels, classes = _labels(root, find, names, source)
    return collect(root, layout, classes, (_annotated(root, name, path, classes) for name, path in labels.items()))


def _open_regions(root: Path, find: Find, names: Callable[[], tuple[str, ...]], source: Path, layout: str) -> RegionSet:
    labels, classes = _labels(root, find, names, source)
    images = []
    for name, path in labels.items():
        width, height = image_files.size_of(root / name)
        objects = _objects(root, path, classes)
        images.append(RegionImage(name, width, height, tuple(_region(each, (width, height), classes) for each in objects)))
    return RegionSet(root, layout, classes, tuple(images))


def _labels(root: Path, find: Find, names: Callable[[], tuple[str, ...]], source: Path) -> tuple[dict[str, str | None], tuple[str, ...]]:
    """Return the text file of each image of a split, or None for an image without, and the classes."""
    files = Files(root)
    found, classes = find(files), names()
    if not found:
        raise BadData(f"{source}: there is no image of this split")
    labels = {name: _labels_of(files, name) for name in found}
    check_unique([path for path in labels.values() if path is not None], root)
    _check_alone(root, labels, source)
    if bare := [name for name, path in labels.items() if path is None]:
        warn(f"{root}: {count(len(bare), 'image')} without a text file taken as without objects, such as {bare[0]}")
    if len(bare) == len(found):
        raise BadData(
            f"{root}: not one of {count(len(found), 'image')} has a text file; that of {found[0]} would be {_places_of(found[0])[0]}"
        )
    return labels, classes


def _places_of(name: str) -> tuple[str, ...]:
    """Return the possible paths of the text file of an image."""
    beside = PurePosixPath(name).with_suffix(".txt")
    parts = list(beside.parts)
    if "images" not in parts[:-1]:
        return (beside.as_posix(),)
    last = len(parts) - 2 - parts[:-1][::-1].index("images")
    return (PurePosixPath(*parts[:last], "labels", *parts[last + 1 :]).as_posix(), beside.as_posix())


def _labels_of(files: Files, name: str) -> str | None:
    return next((found for place in _places_of(name) if (files.root / place).parent.is_dir() and (found := files.find(place))), None)


def _check_alone(root: Path, labels: Mapping[str, str | None], source: Path) -> None:
    """Raise BadData for a text file without an image, in a folder with the text files of images."""
    folders = {PurePosixPath(name).parent for name in labels}
    stems = {path.stem for folder in folders for path in visible(root / folder) if is_image_name(path)}
    for folder in sorted({PurePosixPath(path).parent for path in labels.values() if path is not None}):
        if not folder.parts and source.name != CLASS_LIST:  # the lists of images lie there too
            continue
        for path in visible(root / folder, "*.txt"):
            if path.name != CLASS_LIST and path.stem not in stems:
                raise BadData(f"{path} has no image; add it, or remove the text file")


def _annotated(root: Path, name: str, labels: str | None, classes: tuple[str, ...]) -> tuple[DetectionImage, list[Annotation]]:
    image = DetectionImage(name, name, *image_files.size_of(root / name))
    found = []
    for at, _, label, numbers in _objects(root, labels, classes):
        x0, y0, x1, y1 = _box(numbers)
        scaled = (x0 * image.width, y0 * image.height, x1 * image.width, y1 * image.height)
        found.append(Annotation(scaled, label + 1, id=at))
    return image, found


def _region(found: Object, size: tuple[int, int], classes: tuple[str, ...]) -> Region:
    _, where, label, numbers = found
    if len(numbers) == 4:
        raise BadData(f"{where} has a box but no outline; draw its polygon, or delete it")
    return Region(classes[label], (polygon(numbers, where) * size,))


def _objects(root: Path, labels: str | None, classes: tuple[str, ...]) -> list[Object]:
    if labels is None:
        return []
    return [_object(line, f"{root / labels}, line {at},", classes, at) for at, line in _lines(root / labels)]


def _lines(path: Path) -> Iterable[tuple[int, str]]:
    """Return the number and the text of each line of a text file that is not empty. The file may have none."""
    return [(at, line) for at, line in enumerate(read_text(path, at_most=MAX_LABELS).splitlines(), 1) if line.strip()]


def _object(line: str, where: str, classes: tuple[str, ...], at: int) -> Object:
    values = line.split()
    values[0] = values[0].removesuffix(".0")  # NumPy writes all columns as floating-point numbers
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        raise BadData(f"{where} has {len(values)} values; a box has 5 (class, x, y, width, height), and a polygon 7 or more")
    if not values[0].isascii() or not values[0].isdigit() or len(values[0]) > len(str(MOST_CLASSES)) or int(values[0]) >= len(classes):
        raise BadData(f'{where} has the class "{values[0][:SHOWN]}"; the classes are 0 to {len(classes) - 1}')
    try:
        numbers = [float(value) for value in values[1:]]
    except ValueError:
        raise BadData(f'{where} has a value that is not a number: "{line.strip()[:SHOWN]}"') from None
    if not all(-BEYOND <= value <= 1 + BEYOND for value in numbers):
        raise BadData(f"{where} has a value that is not from 0 to 1; values are fractions of the width or the height of the image")
    if len(numbers) == 4 and not all(-BEYOND <= corner <= 1 + BEYOND for corner in _box(numbers)):
        raise BadData(f"{where} has a box that extends beyond the image by more than {BEYOND:.0%} of its side")
    return at, where, int(values[0]), numbers


def _box(numbers: Sequence[float]) -> Box:
    """Return the box of a centre with a width and a height, or around the points of a polygon."""
    if len(numbers) == 4:
        x, y, width, height = numbers
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    across, down = numbers[::2], numbers[1::2]
    return min(across), min(down), max(across), max(down)
