"""Annotated images in the forms that tools write, and recognising the form of a folder."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec

from trickzoo.data.layouts import SPLIT_NAMES, split_of
from trickzoo.data.listing import EVERY, by_stem, folder_called, images_by_stem, visible, warn
from trickzoo.errors import BadData, BadOption, nearest
from trickzoo.files import read_regular
from trickzoo.wording import count, verb

ALL = "all"
"""The name of the split that contains all images, for sets without splits."""
IMAGES = ("images", "JPEGImages")
"""Names of the folder of images beside that of their annotations, in upper or lower case."""
SHOWN = 80
"""How many characters of a name a message shows."""
T = TypeVar("T")
Pair: TypeAlias = tuple[Path, Path]
"""The folder of annotations and the folder of images, which can be the same."""


@dataclass(frozen=True)
class Export:
    """A set of annotated images in the form of a tool.

    Attributes:
        what: the tool and the format, such as "Roboflow COCO export".
        layout: the layout, a name in `layouts.LAYOUTS`.
        place: the file or folder by which the form was recognised, for messages.
        splits: for each split, train, val or test, the function that opens it. A set without splits has one function, under another name,
            such as "default". The function is called with the description of the layout.
    """

    what: str
    layout: str
    place: Path
    splits: Mapping[str, functools.partial[Any]] = field(repr=False)

    @property
    def whole(self) -> bool:
        """Whether the set has no splits."""
        return len(self.splits) == 1 and split_of(next(iter(self.splits))) is None

    @property
    def in_words(self) -> str:
        """The form and the number of its splits, such as "Roboflow COCO export, 3 splits"."""
        return f"{self.what}, {'no splits' if self.whole else count(len(self.splits), 'split')}"

    def opened_by(self, function: Callable[..., Any]) -> Export:
        """Return the export with another function that opens its splits, with the same arguments as theirs."""
        return replace(self, splits={split: functools.partial(function, *opener.args) for split, opener in self.splits.items()})

    def open(self, root: Path, split: str) -> Any:
        """Open the images of a split, by any of its names. `ALL` are the images of a set without splits, or without validation images.

        Raises BadData if there is no such split, BadOption for `ALL` if there are validation images, and what the reader raises.
        """
        name = split_of(split) or split
        if name == ALL:
            if not self.whole and ("val" in self.splits or "train" not in self.splits):
                remedy = "use it without --val-fraction and --split-file"
                raise BadOption(f"{root} ({self.in_words}) has validation images and cannot be divided; {remedy}")
            name = next(iter(self.splits)) if self.whole else "train"
        if name in self.splits:
            return self.splits[name](self.in_words)
        if self.whole:
            raise BadData(
                f"{root} ({self.what}) has no splits; train with --val-fraction 0.2, or evaluate with --split all, or with --split-file "
                "and the split.csv of the training"
            )
        hint = "; take some of train for it with --val-fraction 0.2" if name == "val" and "train" in self.splits else ""
        there = ", ".join(self.splits)
        raise BadData(f'{root} ({self.what}) has no split "{split}", only {there}{nearest(split, self.splits) or hint}')


def by_split(root: Path, named: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Return things in `root` by the splits that their names mean, train first; a name that means no split is kept.

    Raises BadData if two names mean the same split.
    """
    found: dict[str, T] = {}
    names: dict[str, str] = {}
    for name, thing in named:
        split = split_of(name) or name
        if split in found:
            raise BadData(f"{root}: {names[split]} and {name} mean the same split; merge them, or rename or remove one")
        found[split], names[split] = thing, name
    order = list(SPLIT_NAMES)
    return {split: found[split] for split in sorted(found, key=lambda split: order.index(split) if split in order else len(order))}


def folders_of_splits(root: Path) -> dict[str, Path]:
    """Return the folder of each split, train, val or test, directly in a folder. Raises BadData as `by_split` does."""
    return by_split(root, ((path.name, path) for path in visible(root) if split_of(path.name) and path.is_dir()))


def pairs_of_splits(root: Path, suffix: str, names: Sequence[str]) -> dict[str, Pair]:
    """Return the folders of annotations and of images of each split, for tools that write a file with `suffix` for each image.

    The files lie beside the images, or in a folder with one of `names` beside a folder of images. Both may be in `root`, or in a folder of
    a split in it. Images without splits are those of `ALL`.
    """
    found = {}
    for split, folder in {ALL: root, **folders_of_splits(root)}.items():
        pair = folder, folder
        if not annotations_in(pair, suffix):
            annotations, images = (folder_called(folder, known) for known in (names, IMAGES))
            if annotations is None or images is None or not annotations_in((annotations, images), suffix):
                continue
            pair = annotations, images
        found[split] = pair
    return found


def annotations_in(pair: Pair, suffix: str) -> list[Path]:
    """Return the files of annotations in a pair of folders, sorted. `suffix` is in lower case; the files' may be in upper case."""
    return [path for path in visible(pair[0]) if path.suffix.lower() == suffix]


def annotated_images(pair: Pair, suffix: str, what: str) -> list[tuple[Path, Path]]:
    """Return each file of annotations in a pair of folders with its image, which has the same name but for the suffix.

    Images without `what`, a file of annotations, and such files in subfolders are left out with a warning. Raises BadData for a file
    without an image, and if two files differ only in their suffix.
    """
    annotations, images = by_stem(pair[0], {suffix}), images_by_stem(pair[1])
    if alone := sorted(annotations.keys() - images.keys()):
        raise BadData(f"{pair[1]} has no image {alone[0][:SHOWN]}, and {pair[0] / annotations[alone[0]]} annotates it")
    if missing := sorted(images.keys() - annotations.keys()):
        warn(f"{pair[1]}: {count(len(missing), 'image')} without {what} left out, such as {images[missing[0]]}")
    places = (path.relative_to(pair[0]) for path in visible(pair[0], EVERY) if path.suffix.lower() == suffix)
    if below := [place for place in places if len(place.parts) > 1 and not split_of(place.parts[0])]:
        left = f"{count(len(below), 'file')} of annotations in subfolders {verb(len(below), 'is')} left out"
        warn(f"{pair[0]}: {left}, such as {below[0]}; move {'it' if len(below) == 1 else 'them'} up, with the images")
    return [(pair[0] / annotations[stem], pair[1] / images[stem]) for stem in sorted(annotations)]


def only_export(root: Path, found: Sequence[Export], wanted: str) -> Export:
    """Return the only form that was recognised in a folder.

    `wanted` says what the folder must contain. Raises BadData if no form or more than one was recognised, with what to do.
    """
    if not root.is_dir():
        raise BadData(f"{root} is not a folder")
    if not found:
        raise BadData(f"{root} has no layout that is recognised{_malformed(root)}; it must contain {wanted}")
    if len(found) == 1:
        return found[0]
    first, second = found[:2]
    if first.layout != second.layout:
        remedy = f"name the layout, {first.layout} or {second.layout}, in place of own"
    elif first.layout == "coco":
        remedy = "name one of the files with --annotations"
    else:
        remedy = "move one of them away"
    raise BadData(f"{root} has two possible layouts, {first.what} ({first.place.name}) and {second.what} ({second.place.name}); {remedy}")


def _malformed(root: Path) -> str:
    """Return a part of a message that names a JSON file in a folder that is damaged, and therefore not recognised; "" if there is none."""
    for path in (*visible(root, "*.json"), *visible(root, "annotations/*.json")):
        try:
            content = read_regular(path)
            msgspec.json.decode(content.decode(json.detect_encoding(content)))
        except msgspec.DecodeError as error:
            return f"; {path.name} is not JSON ({error})"
        except (OSError, UnicodeDecodeError, RecursionError):
            continue
    return ""
