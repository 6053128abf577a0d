"""Sets in ImageNet's layouts.

- class folders named by synset (n01440764 …), any subset of them, with or without `train/`, `val/` (or `valid/`, `validation/`) and
  `test/` above;
- class folders named 0 … 999, or some of these: ImageNet's classes if all are there, or if the model has ImageNet's classes;
- the flat validation folder (ILSVRC2012_val_00000001.JPEG …) with the devkit, or Kaggle's LOC_val_solution.csv, in or beside it;
- the original ILSVRC2012_img_val.tar, which is not unpacked, with the same labels beside it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from trickzoo.data.classes import SYNSET, classes_of_labels, imagenet1k
from trickzoo.data.exports import by_split
from trickzoo.data.images import is_image_name
from trickzoo.data.imageset import BY_INDEX, BY_NAME, BY_SYNSET, Entry, ImageSet
from trickzoo.data.layouts import check_exists, split_of
from trickzoo.data.listing import equal_groups, is_hidden, same_form, warn
from trickzoo.data.readers import table
from trickzoo.data.readers.devkit import validation_labels
from trickzoo.data.readers.tars import members
from trickzoo.errors import BadData, shortened
from trickzoo.files import open_regular, reading
from trickzoo.wording import count

FLAT = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")
VALIDATION_TAR = "ILSVRC2012_img_val.tar"
DISTRIBUTED = "ILSVRC2012_"
"""The beginning of the names of ImageNet's own archives."""
DEEPEST = 100
"""How deeply folders may be nested in a class folder."""


def open_imagenet(path: Path, *, split: str = "val", devkit: Path | None = None) -> ImageSet:
    """Find the layout of `path` and list its images.

    Args:
        path: a folder in one of the layouts that the module's docstring names, or ImageNet's validation tar.
        split: "train", "val" or "test", for a folder that has a folder for each split, by one of the names in `layouts.SPLIT_NAMES`.
        devkit: the devkit's folder or archive, or Kaggle's solution file. By default it is looked for in and beside `path`.

    Raises BadData if the layout is not one of these, or if labels or images are missing.
    """
    check_exists(path)
    if path.is_file():
        if is_image_name(path.name):
            raise BadData(f"{path} is an image; name the folder that contains the class folders")
        return _tar(path, devkit)
    root, path = path, _split_folder(path, split)
    folders, files = _listing(path)
    flat = [name for name in files if FLAT.fullmatch(name)]
    if flat:
        labels = validation_labels(path, devkit)
        others = tuple(name for name in files if is_image_name(name) and not FLAT.fullmatch(name))
        return ImageSet(path, "flat validation folder", tuple(Entry(name, _label(name, labels)) for name in flat), unread=others)
    if not folders:
        if VALIDATION_TAR in files:
            raise BadData(f"{path} holds no class folders; name {path / VALIDATION_TAR} itself")
        found = count(len(files), "file") if files else "nothing"
        raise BadData(
            f"{path} holds {found} and no class folders; put images into {root}/CLASS/, or into {root}/train/CLASS/ and "
            f"{root}/val/CLASS/, or use trickzoo finetune if they have boxes or masks{table.suggested(root)}"
        )
    _refuse_splits(path, folders)
    classes, order = classes_of_labels(folders)
    if order == imagenet1k():
        return _class_folders(path, dict(zip(folders, classes, strict=True)), BY_INDEX)
    synsets = any(SYNSET.fullmatch(name) for name in folders)
    return _class_folders(path, _labels_of_folders(path, folders), BY_SYNSET if synsets else BY_NAME)


def _refuse_splits(path: Path, folders: list[str]) -> None:
    """Raise BadData if the names of all folders contain those of splits, as train_images and test_images do, with images and no folders."""
    meant = [{split_of(word) for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", name)} - {None} for name in folders]
    if all(meant) and len(set.union(*meant)) > 1 and not any(_listing(path / name)[0] for name in folders):
        raise BadData(
            f"{path} holds {shortened(folders, 3)}, which are named as splits, and hold no class folders; put images into "
            f"{path}/train/CLASS/ and {path}/val/CLASS/{table.suggested(path)}"
        )


def _split_folder(path: Path, split: str) -> Path:
    """Return the folder of a split below `path`, or `path` itself if it contains the class folders.

    Raises BadData if `path` contains other splits only.
    """
    there = split_folders(path)
    if not there:
        return path
    if split not in there:
        other, place = next(iter(there.items()))
        taken = f"take some of {place}/ for it with --val-fraction 0.2, " if split == "val" and other == "train" else ""
        raise BadData(
            f"{path} has {place}/ but no {split}/; put images in {split}/, {taken}"
            f"or evaluate the others: `trickzoo eval imagenet --split {other}`"
        )
    return path / there[split]


def split_folders(path: Path) -> dict[str, str]:
    """Return the name of the folder of each split below `path`; the result is empty if `path` contains the class folders itself.

    A folder called train or val is a class and not a split if it contains images and there are other class folders beside it.
    Raises BadData if two folders mean the same split.
    """
    folders, _ = _listing(path)
    named = [name for name in folders if split_of(name)]
    if not named or any(SYNSET.fullmatch(name) for name in folders):
        return {}
    if len(named) < len(folders) and not any(_listing(path / name)[0] for name in named):
        return {}
    return by_split(path, ((name, name) for name in named))


def _listing(path: Path) -> tuple[list[str], list[str]]:
    """Return the sorted names of the folders and of the files directly in `path`, without hidden ones."""
    entries = [entry for entry in _entries(path) if not is_hidden(entry.name)]
    folders = [entry.name for entry in entries if os.path.isdir(entry.path)]
    return folders, [entry.name for entry in entries if os.path.isfile(entry.path)]


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """Return the entries directly in a folder, sorted by name. Raises BadData if the folder cannot be read."""
    with reading(folder), os.scandir(folder) as found:
        return sorted(found, key=lambda entry: entry.name)


def _labels_of_folders(path: Path, folders: list[str]) -> dict[str, str]:
    """Return the class of each class folder: its name in Unicode's composed form, because systems store accents differently.

    Raises BadData for a name that is not UTF-8, and for two folders of the same class.
    """
    for name in folders:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise BadData(f"{path}: the name of the class folder {os.fsencode(name)!r} is not UTF-8; rename it") from None
    labels = {name: same_form(name) for name in folders}
    if twins := equal_groups(labels, same_form):
        raise BadData(
            f"{path} has {len(twins[0])} class folders {labels[twins[0][0]]}, which differ only in how the accents are stored; merge them"
        )
    return labels


def _class_folders(path: Path, labels: dict[str, str], layout: str) -> ImageSet:
    """Return the images below the class folders in `labels`, with the files that are not read and the empty class folders."""
    entries, empty, unread = [], [], []
    for top in _entries(path):
        if not os.path.isdir(top.path):
            unread += [] if is_hidden(top.name) and not is_image_name(top.name) else [top.name]
            continue
        found = False
        for file in _files_below(top.path, hidden=top.name not in labels, above=frozenset({_identity(path)})):
            name = Path(file.path).relative_to(path).as_posix()
            if file.is_image and file.can_be_read and not file.hidden:
                entries.append(Entry(name, labels[top.name]))
                found = True
            elif file.is_image or not file.hidden:
                unread.append(name)
        if not found and top.name in labels:
            empty.append(top.name)
    if not entries:
        suffixes = ", ".join(sorted({Path(name).suffix.lower() or "no suffix" for name in unread})[:5])
        there = f", only files that are not read ({suffixes}); save them as JPEG or PNG" if unread else "; put images into them"
        raise BadData(f"{path} has {count(len(labels), 'class folder')} and no image in any{there}")
    _warn_of_splits(path, [entry.name for entry in entries])
    return ImageSet(path, layout, tuple(entries), tuple(empty), tuple(unread))


def _warn_of_splits(path: Path, names: list[str]) -> None:
    """Warn if the folders that are taken for classes could be splits, or could be data sets with splits, with the classes below."""
    inside: dict[str, set[str]] = {}
    for name in names:
        first, *below = name.split("/", 2)
        inside.setdefault(first, set()).update(below[:1] if len(below) > 1 else ())
    for first, folders in inside.items():
        if splits := sorted(filter(split_of, folders)):
            warn(f"{path}: {first} is taken for a class, and contains {shortened(splits, 3)}; if these are splits, name {path / first}")
            return
    if len(inside) > 1 and len(common := set.intersection(*inside.values())) > 1:
        warn(
            f"{path}: {shortened(sorted(inside), 3)} are taken for the classes, and all of them contain {shortened(sorted(common), 3)}; "
            "if these are the classes, call the folders above them train and val"
        )


class _File(NamedTuple):
    """A file below a class folder. All files below a hidden folder are hidden. Pipes, devices and folders cannot be read."""

    path: str
    is_image: bool
    can_be_read: bool
    hidden: bool


def _files_below(folder: str, *, hidden: bool, above: frozenset[tuple[int, int]]) -> Iterator[_File]:
    """Yield the files below a folder, sorted.

    Links to folders are followed. A link back to one of the folders `above`, which are given by device and inode, is yielded as a file that
    cannot be read. Raises BadData for folders that are nested more than `DEEPEST` folders deep.
    """
    identity = _identity(folder)
    if identity in above:
        yield _File(folder, False, False, hidden)
        return
    if len(above) > DEEPEST:
        raise BadData(f"{folder} is nested more than {DEEPEST} folders deep; move its images up")
    for entry in _entries(folder):
        concealed = hidden or is_hidden(entry.name)
        if os.path.isdir(entry.path):
            yield from _files_below(entry.path, hidden=concealed, above=above | {identity})
        else:  # a broken link counts as an image, so that reading it is an error
            regular = not _is_special(entry.path) if entry.is_symlink() else entry.is_file()
            yield _File(entry.path, is_image_name(entry.name), regular, concealed)


def _identity(folder: str | Path) -> tuple[int, int]:
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _is_special(path: str) -> bool:
    return os.path.exists(path) and not os.path.isfile(path)


def _tar(path: Path, devkit: Path | None) -> ImageSet:
    """Return the validation set in the tar that ImageNet distributes. Its headers are read; nothing is extracted."""
    entries = []
    labels = None
    with reading(path), open_regular(path) as file:
        for member in members(file, str(path), what="neither a folder, a table (.csv, .tsv) nor an uncompressed tar"):
            place = PurePosixPath(member.name)
            if place.is_absolute() or ".." in place.parts:
                raise BadData(f"{path}: member {member.name} points outside the archive; this is not the file that ImageNet distributes")
            if member.kind == "folder":
                continue
            if member.kind == "other" or not FLAT.fullmatch(place.name):
                remedy = f"pass {VALIDATION_TAR}, or the folder of tar shards"
                raise BadData(f"{path}: member {member.name} is none of ILSVRC2012_val_*.JPEG; {remedy}")
            labels = labels or validation_labels(path.parent, devkit)
            entries.append(Entry(member.name, _label(place.name, labels), member.offset, member.size))
    if not entries:
        raise BadData(f"{path} is an empty tar")
    return ImageSet(path, "validation tar", tuple(sorted(entries)))


def _label(filename: str, labels: dict[int, str]) -> str:
    match = FLAT.fullmatch(filename)
    number = int(match[1]) if match else 0
    if number not in labels:
        raise BadData(f"{filename} is not in the ground truth, which has {len(labels):,} images")
    return labels[number]
