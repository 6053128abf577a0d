"""Comparison of training and validation images: which images are in both or in several classes, and which classes validation lacks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trickzoo.data.contents import SKIP
from trickzoo.data.imageset import Entry, ImageSet
from trickzoo.data.listing import equal_groups
from trickzoo.errors import BadData, shortened
from trickzoo.wording import count, verb

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
        ambiguous: the names of the training images whose bytes are those of a training image of another class.
    """

    n: int
    repeated: tuple[str, ...]
    unseen: tuple[str, ...]
    classes: int
    ambiguous: tuple[str, ...] = ()

    @property
    def sentences(self) -> list[str]:
        """Warnings for the user before a training run starts; empty if there are none."""
        found = []
        if self.repeated:
            found.append(
                f"{len(self.repeated):,} of {count(self.n, 'validation image')} {verb(len(self.repeated), 'occurs')} among the training "
                f"images too ({shortened(self.repeated, 5)}); accuracy on them says nothing about new images"
            )
        if self.unseen:
            found.append(
                f"{len(self.unseen):,} of {count(self.classes, 'class')} {verb(len(self.unseen), 'has')} no validation image "
                f"({shortened(self.unseen, 5)}) and {verb(len(self.unseen), 'is')} not judged"
            )
        if self.ambiguous:
            found.append(
                f"{count(len(self.ambiguous), 'training image')} {verb(len(self.ambiguous), 'is')} the same as one of another class "
                f"({shortened(self.ambiguous, 5)}); keep each in one class only"
            )
        return found

    @property
    def as_result(self) -> dict[str, Any]:
        """The comparison under the names of result files."""
        return {
            "val_images_in_train": len(self.repeated),
            "classes_without_val_images": list(self.unseen),
            "train_images_in_several_classes": len(self.ambiguous),
        }


def compare(train: ImageSet, val: ImageSet) -> Comparison:
    """Compare two sets. Images are the same if their files have the same bytes. Raises BadData if a file cannot be read."""
    files = [(images, entry) for images in (train, val) for entry in images.entries]
    try:
        groups = _same_files(files)
    except OSError as error:
        raise BadData(f"{error.filename} cannot be read ({error.strerror}); {SKIP}") from None
    repeated: list[int] = []
    ambiguous: list[int] = []
    n = len(train.entries)
    for group in groups:
        mine = [index for index in group if index < n]
        repeated += [index for index in group if index >= n and mine]
        ambiguous += mine if len({files[index][1].label for index in mine}) > 1 else []
    present = set(val.classes)
    return Comparison(
        len(val.entries),
        tuple(files[index][1].name for index in sorted(repeated)),
        tuple(name for name in train.classes if name not in present),
        len(train.classes),
        tuple(files[index][1].name for index in sorted(ambiguous)),
    )


def _same_files(files: Sequence[tuple[ImageSet, Entry]]) -> list[list[int]]:
    """Return the groups of at least two files with the same bytes, as indices in order.

    Only files whose size and whose last bytes equal those of another file are read completely.
    """
    by_size = equal_groups(range(len(files)), lambda index: _size(*files[index]))
    by_end = [same for group in by_size for same in equal_groups(group, lambda index: _end(*files[index]))]
    return [same for group in by_end for same in equal_groups(group, lambda index: _contents(*files[index]))]


def _size(images: ImageSet, entry: Entry) -> int:
    return images.size(entry)


def _end(images: ImageSet, entry: Entry) -> bytes:
    return hashlib.sha256(images.read(entry, last=END)).digest()


def _contents(images: ImageSet, entry: Entry) -> bytes:
    return hashlib.sha256(images.read(entry)).digest()
