"""What sets of images with boxes and sets of images with masks have in common."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trickzoo.data import contents, images

if TYPE_CHECKING:
    from trickzoo.data.shapes import Drawing


@dataclass(frozen=True)
class Survey:
    """How often each class occurs in a set.

    Attributes:
        unit: whether objects or pixels are counted.
        counts: for each class, in the set's order, the number of objects or pixels that train and are judged.
        images: for each class, the number of images with at least one of these.
        left_out: the number of crowd and difficult objects, or of pixels that are not judged.
        values: for each value in the mask files, the number of its pixels; empty for boxes.
        first: the value of the first class in the mask files.
    """

    unit: Literal["objects", "pixels"]
    counts: Mapping[str, int]
    images: Mapping[str, int]
    left_out: int
    values: Mapping[int, int] = field(default_factory=dict)
    first: int = 0

    @property
    def total(self) -> int:
        """The sum of the counts of all classes."""
        return sum(self.counts.values())

    @property
    def absent(self) -> list[str]:
        """The classes that never occur."""
        return [name for name, count in self.counts.items() if not count]

    @property
    def alone(self) -> str | None:
        """The class of all judged pixels, if they have only one although the set has several; otherwise None."""
        present = [name for name, count in self.counts.items() if count]
        return present[0] if self.unit == "pixels" and len(present) == 1 < len(self.counts) else None


class AnnotatedSet(ABC):
    """Images with annotations. The images are files, or they were generated.

    Attributes:
        root: the folder that contains the images.
        layout: a description of the layout and the split.
        classes: the names of the classes.
        drawings: the images themselves if they were generated, otherwise empty.
    """

    root: Path
    layout: str
    classes: tuple[str, ...]
    drawings: tuple[Drawing, ...]

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Return the name of an image, relative to the root."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the images, relative to the root."""
        return tuple(map(self.name, range(len(self))))

    @property
    def generated(self) -> bool:
        """Whether the images were generated, and so are not files."""
        return bool(self.drawings)

    def content(self, index: int) -> bytes:
        """Return the bytes of an image's file. Raises BadData if it cannot be read."""
        return images.content(self.root / self.name(index))

    @functools.cached_property
    def contents(self) -> tuple[bytes, ...]:
        """The SHA-256 of each image's file, or nothing if the images are generated.

        Computed once. Raises BadData for an unreadable file.
        """
        return () if self.drawings else contents.digests(self.root, self.names)

    @property
    @abstractmethod
    def digest(self) -> str:
        """The SHA-256 over images and annotations, which identifies the set."""

    @property
    @abstractmethod
    def survey(self) -> Survey:
        """How often each class occurs. Raises BadData for an image whose annotations cannot be used."""

    @property
    @abstractmethod
    def notes(self) -> tuple[str, ...]:
        """Lines for the user about the annotations, such as one on the boxes that were dropped."""

    @abstractmethod
    def with_classes(self, classes: Sequence[str], *, complete: bool = True, owner: str = "the model") -> AnnotatedSet:
        """Return the same images with these classes, in this order. Raises BadData if that is not possible.

        The message says that the classes are those of `owner`.
        """
