"""Boxes in VOC's XML as annotation tools write it: beside the images, in a folder of their own, or in the folders of VOC."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trickzoo.data.boxes import DetectionSet, collect
from trickzoo.data.exports import ALL, Export, Pair, annotated_images, annotations_in, by_split, only_export, pairs_of_splits
from trickzoo.data.layouts import split_of
from trickzoo.data.listing import CLASS_LIST, read_classes, same_form, visible
from trickzoo.data.readers.voc import classes_in, open_voc, read_annotation

SUFFIX = ".xml"
XMLS = ("annotations", "labels", "xml")
"""Names of the folder of XML files beside that of the images, in upper or lower case."""


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
    folders = pairs_of_splits(root, SUFFIX, XMLS)
    openers = {split: functools.partial(_open_beside, root, tuple(folders.values()), pair) for split, pair in folders.items()}
    return [Export("VOC XML export", "voc", next(iter(folders.values()))[0], openers)] if folders else []


def _open_lists(root: Path, split: str, layout: str) -> DetectionSet:
    return replace(open_voc(root, split), layout=layout)


def _open_beside(root: Path, all_pairs: Sequence[Pair], pair: Pair, layout: str) -> DetectionSet:
    """Open the images of a folder with the XML files in the same or in another folder. The classes are those of all splits."""
    if (root / CLASS_LIST).is_file():
        classes = read_classes(root / CLASS_LIST)
    else:
        classes = classes_in((xml for each in all_pairs for xml in annotations_in(each, SUFFIX)), pair[0], root)
    label_of = {name: label for label, name in enumerate(classes, 1)}
    annotated = (
        read_annotation(xml, image, image.relative_to(root).as_posix(), same_form(image.stem), label_of)
        for xml, image in annotated_images(pair, SUFFIX, "an XML file")
    )
    return collect(root, layout, classes, annotated)
