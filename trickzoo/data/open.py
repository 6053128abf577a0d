"""Opening the images that `--data` names: a folder in any layout that is read, a tar, or a data set of the hub."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path, PurePosixPath
from pkgutil import resolve_name

from trickzoo.data.images import depth_notes
from trickzoo.data.imageset import BY_INDEX, BY_NAME, BY_SYNSET, ImageSet
from trickzoo.data.layouts import IMAGE_FOLDERS, is_hub, is_table
from trickzoo.data.listing import warn
from trickzoo.data.readers import hub, table
from trickzoo.data.readers.imagenet import open_imagenet, split_folders
from trickzoo.data.selection import listed
from trickzoo.errors import BadOption, shortened
from trickzoo.wording import count, verb

NAMED = 8
"""How many files or folders a warning names. The result file of an evaluation names all of them."""


def open_set(data: str | Path, *, split: str = "val", devkit: Path | None = None, folder: Path | None = None) -> ImageSet:
    """Return the labelled images of a split, "train", "val" or "test".

    Warnings count and name the files that are not read as images, and the class folders without an image, which are not classes of the set.
    Another one tells if the first image is grey of 16 bits and too dark (`images.depth_notes`).
    Raises BadData if there is no such split, or if its images cannot be listed.

    Args:
        data: a folder of a layout in `layouts.IMAGE_FOLDERS`, hf:NAME, a table (`readers.table`), or what `open_imagenet` takes.
        split: "train", "val" or "test".
        devkit: the devkit or Kaggle's solution file, as for `open_imagenet`.
        folder: the folder that the paths in a table are relative to; None is that of the table.

    Also raises BadOption for a `folder` if the images are not named in a table.
    """
    if folder is not None and not is_table(data):
        raise BadOption(f"--images names the folder of a table's images, and {data} is not a table")
    images = table.open_table(Path(data), split, folder=folder) if is_table(data) else _open(data, split, devkit)
    if images.unread:
        warn(left_out(images))
    if images.empty:
        warn(without_images(images))
    if images.entries and not is_hub(data):
        for note in depth_notes(lambda: images.content(0), images.place(images.entries[0])):
            warn(note)
    return images


def open_part(data: str | Path, split: str, split_file: Path | None, *, devkit: Path | None = None, folder: Path | None = None) -> ImageSet:
    """Return the labelled images of a split as `open_set` does, or those that a list assigns to it, if there is a list."""
    if split_file is None:
        return open_set(data, split=split, devkit=devkit, folder=folder)
    return listed(open_undivided(data, folder=folder), split_file, split)


def open_undivided(data: str | Path, *, folder: Path | None = None) -> ImageSet:
    """Return the labelled images of a source without validation images, all of them or those for training, so that they can be divided.

    Warns and raises as `open_set` does, and raises BadOption if the source has validation images.
    """
    if is_hub(data):
        raise BadOption(f"{data} states its splits and cannot be divided; use it without --val-fraction and --split-file")
    train = open_set(data, split="train", folder=folder)
    if is_table(data):
        has_val = "val" in table.splits_of(Path(data))
    elif train.layout in (BY_SYNSET, BY_INDEX, BY_NAME):
        place = split_folders(Path(data)).get("val")
        has_val = place is not None and any(files for _, _, files in os.walk(Path(data) / place))
    else:
        has_val = open_set(data, split="val").entries != train.entries
    if has_val:
        raise BadOption(f"{data} has validation images and cannot be divided; use it without --val-fraction and --split-file")
    return train


def left_out(images: ImageSet) -> str:
    """Return a sentence that counts the files of a set that are not read as images, by suffix, and names the first of them."""
    names = images.unread
    suffixes = Counter(PurePosixPath(name).suffix.lower() or "no suffix" for name in names)
    kinds = shortened([f"{n} {suffix}" for suffix, n in suffixes.most_common()], 5)
    shown = shortened(names, NAMED) + (table.suggested(images.root) if any(map(is_table, names)) else "")
    return f"{images.root}: {count(len(names), 'file')} {verb(len(names), 'is')} not read as images and left out ({kinds}): {shown}"


def without_images(images: ImageSet) -> str:
    """Return a sentence that counts the class folders of a set without an image, and names the first of them."""
    names = images.empty
    shown = shortened(names, NAMED)
    return f"{images.root}: {count(len(names), 'class folder')} {verb(len(names), 'is')} empty and left out: {shown}"


def _open(data: str | Path, split: str, devkit: Path | None) -> ImageSet:
    if is_hub(data):
        return hub.open_hub(str(data), split)
    path = Path(data)
    for layout in IMAGE_FOLDERS if path.is_dir() else ():
        found: ImageSet | None = resolve_name(layout.function)(path, split)
        if found is not None:
            return found
    return open_imagenet(path, split=split, devkit=devkit)
