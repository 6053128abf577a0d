"""Boxes in VOC's XML as annotation tools write it: beside the images, in a folder of their own, or in the folders of VOC."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trickzoo.data.boxes import DetectionSet, collect
from trickzoo.data.exports import ALL, Export, by_split, folders_of_splits, only_export
from trickzoo.data.layouts import split_of
from trickzoo.data.listing import by_stem, folder_called, images_by_stem, read_classes, visible, warn
from trickzoo.data.readers.voc import CLASS_LIST, LONGEST, classes_in, open_voc, read_annotation
from trickzoo.errors import BadData
from trickzoo.wording import count

XMLS, IMAGES = ("annotations", "labels", "xml"), ("images", "JPEGImages")
"""Names of the folders of XML files and of images that lie beside each other, in upper or lower case."""


def open_xml(root: Path, split: str = "train", *, year: str | None = None) -> DetectionSet:
    """Open a split of VOC, or of an export that `voc_exports` finds. The arguments and errors are those of `open_voc`."""
    found = voc_exports(root) if year is None and root.is_dir() and not (root / "JPEGImages").is_dir() else []
    opened: DetectionSet = only_export(root, found, "").open(root, split) if found else open_voc(root, split, year=year)
    return opened


def voc_exports(root: Path) -> list[Export]:
    """Return the exports in VOC's XML that a folder contains.

    They are `Annotations/` and `JPEGImages/` with lists in `ImageSets/Main` or without, XML files beside their images, and XML files and
    images in two folders. The last two may be in a folder for each split.
    """
    if (root / "Annotations").is_dir() and (root / "JPEGImages").is_dir():
        lists = visible(root / "ImageSets" / "Main", "*.txt")
        names = [path.stem for path in lists if split_of(path.stem)] or [path.stem for path in lists[:1]] or [ALL]
        openers = {
            split: functools.partial(_open_lists, root, name) for split, name in by_split(root, ((name, name) for name in names)).items()
        }
        tool = "CVAT" if (root / "labelmap.txt").is_file() else "Pascal"
        return [Export(f"{tool} VOC export", "voc", root / "Annotations", openers)]
    folders = {split: pair for split, folder in {ALL: root, **folders_of_splits(root)}.items() if (pair := _pair(folder))}
    openers = {split: functools.partial(_open_beside, root, tuple(folders.values()), pair) for split, pair in folders.items()}
    return [Export("VOC XML export", "voc", next(iter(folders.values()))[0], openers)] if folders else []


def _pair(folder: Path) -> tuple[Path, Path] | None:
    """Return the folders of XML files and of images: this folder itself, or two folders in it. The result is None if there are none."""
    if _has_xml(folder):
        return folder, folder
    xmls, images = (folder_called(folder, names) for names in (XMLS, IMAGES))
    return (xmls, images) if xmls and images and _has_xml(xmls) else None


def _has_xml(folder: Path) -> bool:
    return any(path.suffix.lower() == ".xml" for path in visible(folder))


def _open_lists(root: Path, split: str, layout: str) -> DetectionSet:
    return replace(open_voc(root, split), layout=layout)


def _open_beside(root: Path, all_pairs: Sequence[tuple[Path, Path]], pair: tuple[Path, Path], layout: str) -> DetectionSet:
    """Open the images of a folder with the XML files in the same or in another folder. The classes are those of all splits."""
    if (root / CLASS_LIST).is_file():
        classes = read_classes(root / CLASS_LIST)
    else:
        classes = classes_in((xml for xmls, _ in all_pairs for xml in visible(xmls) if xml.suffix.lower() == ".xml"), pair[0], root)
    label_of = {name: label for label, name in enumerate(classes, 1)}
    photographs, xmls = images_by_stem(pair[1]), by_stem(pair[0], {".xml"})
    if alone := sorted(xmls.keys() - photographs.keys()):
        raise BadData(f"{pair[1]} has no image {alone[0][:LONGEST]}, and {pair[0] / xmls[alone[0]]} annotates it")
    if missing := sorted(photographs.keys() - xmls.keys()):
        warn(f"{pair[1]}: {count(len(missing), 'image')} without an XML file left out, such as {photographs[missing[0]]}")
    below = pair[1].relative_to(root)
    annotated = (
        read_annotation(pair[0] / xmls[stem], pair[1] / photographs[stem], (below / photographs[stem]).as_posix(), stem, label_of)
        for stem in sorted(xmls)
    )
    return collect(root, layout, classes, annotated)
