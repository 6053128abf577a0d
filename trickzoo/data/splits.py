"""Comparison of training and validation images: which images are in both, and which classes validation lacks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trickzoo.data.imageset import Entry, ImageSet
from trickzoo.errors import BadData

END = 4096
"""How many bytes at the end of a file are compared first. Headers are often the same, but compressed pixels rarely are."""


@dataclass(frozen=True)
class Comparison:
    """A comparison of validation images with training images.

    Attributes:
        n: the number of validation images.
        repeated: the names of the validation images whose files have the same bytes as a training image.
        unseen: the training classes without a validation image.
        classes: the number of training classes.
    """

    n: int
    repeated: tuple[str, ...]
    unseen: tuple[str, ...]
    classes: int

    @property
    def sentences(self) -> list[str]:
        """Warnings for the user before a training starts; empty if there are none."""
        found = []
        if self.repeated:
            found.append(
                f"{len(self.repeated):,} of {self.n:,} validation images are training images too ({_few(self.repeated)}); "
                "accuracy on them says nothing about new images"
            )
        if self.unseen:
            found.append(
                f"{len(self.unseen):,} of {self.classes:,} classes have no validation image ({_few(self.unseen)}); they are not judged"
            )
        return found

    @property
    def as_result(self) -> dict[str, Any]:
        """The comparison under the names of result files."""
        return {"val_images_in_train": len(self.repeated), "classes_without_val_images": list(self.unseen)}


def compare(train: ImageSet, val: ImageSet) -> Comparison:
    """Compare two sets. Images are the same if their files have the same bytes. Raises BadData if a file cannot be read."""
    try:
        repeated = tuple(entry.name for entry in _repeated(train, val))
    except OSError as error:
        raise BadData(f"{error.filename} cannot be read ({error.strerror})") from None
    present = set(val.classes)
    return Comparison(len(val.entries), repeated, tuple(name for name in train.classes if name not in present), len(train.classes))


def _repeated(train: ImageSet, val: ImageSet) -> Sequence[Entry]:
    """Return the images of `val` that are in `train`.

    Only files whose size and whose last bytes equal those of a file of the other set are read completely.
    """
    mine, theirs = val.entries, train.entries
    for key in (_size, _end, _contents):
        my_keys, their_keys = [key(val, entry) for entry in mine], [key(train, entry) for entry in theirs]
        common = set(my_keys) & set(their_keys)
        mine = tuple(entry for entry, found in zip(mine, my_keys, strict=True) if found in common)
        theirs = tuple(entry for entry, found in zip(theirs, their_keys, strict=True) if found in common)
    return mine


def _size(images: ImageSet, entry: Entry) -> int:
    return images.size(entry)


def _end(images: ImageSet, entry: Entry) -> bytes:
    return hashlib.sha256(images.read(entry, last=END)).digest()


def _contents(images: ImageSet, entry: Entry) -> bytes:
    return hashlib.sha256(images.read(entry)).digest()


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
