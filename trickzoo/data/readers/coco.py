"""Boxes in COCO's JSON format: COCO's own folder, and the exports of tools.

The following layouts are read. SPLIT is train, val or test, by any of its names, and YEAR is 2017 unless another is named:

- `annotations/instances_SPLITYEAR.json` with the images in `SPLITYEAR/` or `images/SPLITYEAR/`, as COCO is distributed;
- `annotations/instances_SPLIT.json`, or one file `instances_default.json`, with the images in `images/SPLIT/`, `SPLIT/`, `images/` or
  beside `annotations/`, as CVAT exports it;
- `SPLIT/_annotations.coco.json`, or one such file, with the images beside it, as Roboflow exports it;
- `result.json` with the images in `images/`, as Label Studio exports it;
- any other JSON file in COCO's format in the folder or in `annotations/`, such as VIA's export, with the images beside it or in
  `images/`. There may be one file, or one for each split, with the name of the split.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from trickzoo.data.boxes import DetectionSet
from trickzoo.data.exports import Export, by_split, only_export
from trickzoo.data.layouts import split_of
from trickzoo.data.listing import Files, visible
from trickzoo.data.readers.coco_file import Content, decode, is_coco, to_regions, to_set
from trickzoo.data.regions import RegionSet
from trickzoo.errors import BadData, BadOption

YEAR = "2017"
REMEDY = "; --images names the folder that these names are relative to"
"""The end of a message about an image that a file names and that is not in the folder."""
ROBOFLOW, LABEL_STUDIO = "_annotations.coco.json", "result.json"
OFFICIAL = re.compile(r"instances_(train|val|test)(\d{4})\.json")

Family = tuple[str, Path, list[tuple[str, Path, list[Path]]]]
"""The form of an export, the file that shows it, and for each split its name, its file and folders for its images."""


def open_coco(root: Path, split: str = "train", *, year: str | None = None) -> DetectionSet:
    """Open a split of a folder in one of the layouts that the docstring of `trickzoo.data.readers.coco` lists.

    Raises BadData if the folder has no such layout, and as `read_coco` does; BadOption for a year that is not a number.
    """
    if year is not None and not year.isdecimal():
        raise BadOption(f'COCO has no year "{year}"; write 2014 or 2017')
    name = f"{split}{year or YEAR}"
    official = root / "annotations" / f"instances_{name}.json"
    if official.is_file():
        return _open(official, [root / name, root / "images" / name, root, root / "images"], official.name)
    found = _exports(_families(root)) if year is None else []
    if not found:
        there = [*visible(root, "annotations/instances_*.json"), *visible(root, f"*/{ROBOFLOW}")]
        listed = ", ".join(str(path.relative_to(path.parents[1]) if path.name == ROBOFLOW else path.name) for path in there[:8])
        raise BadData(f"{official} does not exist; {'there are ' + listed if there else 'pass the folder that has annotations/'}")
    opened: DetectionSet = only_export(root, found, "").open(root, split)
    return opened


def read_coco(annotations: Path, images: Path) -> DetectionSet:
    """Open a JSON file in COCO's format, with the folder of its images.

    Images and classes are sorted by their ids. Raises BadData for a file that does not have COCO's format, for ids or class names that
    occur twice, for ids of images or categories that are not in the file, and for images that do not exist or occur twice.
    """
    return to_set(annotations, decode(annotations), images, annotations.name, REMEDY)


def read_annotations(annotations: Path) -> DetectionSet:
    """Open a JSON file in COCO's format without its images: they need not exist, and the sizes are those that the file states.

    Raises BadData as `read_coco` does.
    """
    return to_set(annotations, decode(annotations), None, annotations.name)


def read_coco_regions(annotations: Path, images: Path) -> RegionSet:
    """Open the outlines in a JSON file in COCO's format, with the folder of its images. Raises BadData as `coco_file.to_regions` does."""
    return to_regions(annotations, decode(annotations), images, annotations.name, REMEDY)


def coco_exports(root: Path) -> list[Export]:
    """Return COCO's own sets, by year, and the exports in its format that a folder contains. Only files of unknown names are read."""
    return [*_exports(_official(root)), *_exports(_families(root))]


def coco_regions(root: Path) -> list[Export]:
    """Return the exports of `coco_exports`, which open the outlines of the objects, as `RegionSet`, in place of their boxes."""
    return [export.opened_by(_open_regions) for export in coco_exports(root)]


def _exports(families: Iterable[Family]) -> list[Export]:
    found = []
    for what, place, files in families:
        named = by_split(place.parent, ((name, (path, folders)) for name, path, folders in files))
        openers = {split: functools.partial(_open, *places) for split, places in named.items()}
        found.append(Export(what, "coco", place, openers))
    return found


def _families(root: Path) -> Iterator[Family]:
    """Yield the exports of tools in a folder."""
    cvat = [path for path in visible(root, "annotations/instances_*.json") if not OFFICIAL.fullmatch(path.name)]
    if cvat:
        names = [path.stem.removeprefix("instances_") for path in cvat]
        folders = [[*(root / "images" / name, root / name), root / "images", root] for name in names]
        yield "CVAT COCO export", cvat[0], list(zip(names, cvat, folders, strict=True))
    if roboflow := sorted((*visible(root, ROBOFLOW), *visible(root, f"*/{ROBOFLOW}"))):
        yield "Roboflow COCO export", roboflow[0], [(path.parent.name, path, [path.parent]) for path in roboflow]
    files = (*visible(root, "*.json"), *visible(root, "annotations/*.json"))
    others = [path for path in files if path not in cvat and path.name != ROBOFLOW and not OFFICIAL.fullmatch(path.name) and is_coco(path)]
    for paths in [others] if others and all(split_of(path.stem) for path in others) else [[path] for path in others]:
        what = "Label Studio COCO export" if paths[0].name == LABEL_STUDIO else "COCO export"
        yield what, paths[0], [(path.stem, path, _beside(root, path)) for path in paths]


def _official(root: Path) -> Iterator[Family]:
    """Yield COCO as it is distributed, by year."""
    years: dict[str, list[tuple[str, Path, list[Path]]]] = {}
    for path in visible(root, "annotations/instances_*.json"):
        if name := OFFICIAL.fullmatch(path.name):
            folder = name[1] + name[2]
            years.setdefault(name[2], []).append((name[1], path, [root / folder, root / "images" / folder, root, root / "images"]))
    for year, files in years.items():
        yield f"COCO {year}", files[0][1], files


def _beside(root: Path, path: Path) -> list[Path]:
    folders = ("images", "data", "imgs", "JPEGImages")
    return [root / path.stem, root / "images" / path.stem, root, *(root / name for name in folders)]


def _open(annotations: Path, candidates: Sequence[Path], layout: str) -> DetectionSet:
    """Open a file with the first of the candidates that contains its first image."""
    content = decode(annotations)
    return to_set(annotations, content, _folder(annotations, candidates, content), layout)


def _open_regions(annotations: Path, candidates: Sequence[Path], layout: str) -> RegionSet:
    content = decode(annotations)
    return to_regions(annotations, content, _folder(annotations, candidates, content), layout)


def _folder(annotations: Path, candidates: Sequence[Path], content: Content) -> Path:
    """Return the first of the candidates that contains the first image of a file, otherwise the first that exists."""
    folders = [folder for folder in candidates if folder.is_dir()]
    if not folders:
        raise BadData(f"{annotations}: there is no folder {' or '.join(map(str, candidates))} with its images; name it with --images")
    first = content.images[0].file_name
    return next((folder for folder in folders if Files(folder).find(first)), folders[0])
