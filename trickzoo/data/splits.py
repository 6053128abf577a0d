"""What training and validation images have in common, and what validation lacks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trickzoo.data.imageset import Entry, ImageSet
from trickzoo.errors import BadData

END = 4096
"""Bytes at the end of a file that tell most images apart: headers are often the same, compressed pixels hardly ever."""


@dataclass(frozen=True)
class Comparison:
    """Validation images beside the training images.

    Attributes:
        n: validation images in all.
        repeated: names of validation images whose file has the same bytes as a training image's.
        unseen: training classes without a validation image.
        classes: training classes in all.
    """

    n: int
    repeated: tuple[str, ...]
    unseen: tuple[str, ...]
    classes: int

    @property
    def sentences(self) -> list[str]:
        """What a user has to know before a training starts; nothing if all is well."""
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
        """For a result file."""
        return {"val_images_in_train": len(self.repeated), "classes_without_val_images": list(self.unseen)}


def compare(train: ImageSet, val: ImageSet) -> Comparison:
    """Compare two sets; images are one where their files have the same bytes. Raises BadData if a file cannot be read."""
    try:
        repeated = tuple(entry.name for entry in _repeated(train, val))
    except OSError as error:
        raise BadData(f"{error.filename} cannot be read ({error.strerror})") from None
    present = set(val.classes)
    return Comparison(len(val.entries), repeated, tuple(name for name in train.classes if name not in present), len(train.classes))


def _repeated(train: ImageSet, val: ImageSet) -> Sequence[Entry]:
    """The images of `val` that are in `train`.

    Few files of a large set are read whole: those whose size and whose end are those of some file of the other set.
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
