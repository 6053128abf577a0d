"""Sets of labelled images from any source, and reading their images in workers."""

from __future__ import annotations

import errno
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from torch import Tensor
from torch.utils.data import Dataset

from trickzoo.data import images
from trickzoo.data.classes import check_names, imagenet1k
from trickzoo.errors import BadData
from trickzoo.files import open_regular, read_regular, reading

BY_SYNSET, BY_INDEX, BY_NAME = (f"class folders by {what}" for what in ("synset", "index", "name"))


class Entry(NamedTuple):
    """One image of a set.

    Attributes:
        name: its path within the set.
        label: its class.
        offset, size: where its bytes are in `file`; -1 if the image is a file itself.
        file: the path of the file that contains the image, relative to the root; empty if that is the root itself.
    """

    name: str
    label: str
    offset: int = -1
    size: int = -1
    file: str = ""


@dataclass(frozen=True)
class ImageSet:
    """A labelled set of images.

    Attributes:
        root: the folder that contains the images, or the tar file that contains them.
        layout: a description of the layout that was found.
        entries: the images.
        empty: the names of class folders without an image, which are not classes of the set.
        unread: the names of files that are not read, because they are not named as images, are hidden, or belong to no sample.
        order: all classes in the set's own order, or empty if it has none.
        known: the classes of the model that the set is for; empty if it is for none.
    """

    root: Path
    layout: str
    entries: tuple[Entry, ...]
    empty: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    known: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_names({entry.label for entry in self.entries}, self.root)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that occur, in the set's own order if it has one, otherwise sorted."""
        found = {entry.label for entry in self.entries}
        return tuple(name for name in self.order if name in found) if self.order else tuple(sorted(found))

    @functools.cached_property
    def upright(self) -> bool:
        """Whether the images are turned upright by their EXIF orientation, as `turns_upright` decides.

        The classes of the model decide, because a set may have only some of them.
        """
        return turns_upright(self.known or self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the images."""
        return tuple(entry.name for entry in self.entries)

    @property
    def strata(self) -> tuple[str, ...]:
        """The class of each image."""
        return tuple(entry.label for entry in self.entries)

    def take(self, indices: Sequence[int]) -> ImageSet:
        """Return the set of these images."""
        return replace(self, entries=tuple(self.entries[index] for index in indices))

    def content(self, index: int) -> bytes:
        """Return the bytes of an image's file. Raises BadData if it cannot be read."""
        try:
            return self.read(self.entries[index])
        except OSError as error:
            raise BadData(f"{self.place(self.entries[index])} cannot be read ({error.strerror})") from None

    def check_readable(self, index: int) -> None:
        """Raise BadData if an image cannot be decoded."""
        images.decode(self.content(index), self.place(self.entries[index]))

    def place(self, entry: Entry) -> str:
        """Return the path of an image, for messages."""
        return str(self.root / entry.name)

    def stamps(self) -> Iterator[str]:
        """Yield the size and the modification time of each file that contains images. Raises BadData for a missing file."""
        for name in dict.fromkeys(entry.name if entry.offset < 0 else entry.file for entry in self.entries):
            with reading(path := self.root / name):
                stat = path.stat()
            yield f"{stat.st_size} {stat.st_mtime_ns}"

    def size(self, entry: Entry) -> int:
        """Return the size of an image's file in bytes. Raises OSError if the file does not exist."""
        return (self.root / entry.name).stat().st_size if entry.offset < 0 else entry.size

    def read(self, entry: Entry, *, last: int | None = None) -> bytes:
        """Return the bytes of an image's file, or only the `last` bytes.

        Raises OSError if the file cannot be read, is not a regular file, or has more than `images.MAX_FILE` bytes.
        """
        if entry.size > images.MAX_FILE:
            raise OSError(errno.EFBIG, f"more than {images.MAX_FILE:,} bytes", entry.name)
        skipped = 0 if last is None else max(self.size(entry) - last, 0)
        if entry.offset < 0 and not skipped:
            return read_regular(self.root / entry.name, at_most=images.MAX_FILE)
        with open_regular(self.root / (entry.name if entry.offset < 0 else entry.file)) as file:
            file.seek(max(entry.offset, 0) + skipped)
            return file.read() if entry.offset < 0 else file.read(entry.size - skipped)


def turns_upright(classes: Iterable[str]) -> bool:
    """Return whether images of these classes are turned upright by their EXIF orientation.

    They are, unless all classes are ImageNet's: the published figures for ImageNet were measured on the pixels as they are stored.
    """
    return not set(classes).issubset(imagenet1k())


def as_known(images: ImageSet, classes: Iterable[str]) -> ImageSet:
    """Return the set for a model with these classes.

    If they are ImageNet-1k's, class folders whose names are numbers from 0 to 999 are taken as indices of ImageNet's classes. The folders
    alone do not show this: 0, 1 and 2 may be classes of any other set. In every other case the images keep their classes.
    """
    names, images = imagenet1k(), replace(images, known=tuple(classes))
    if images.layout != BY_NAME or not all(name.isdecimal() for name in images.classes) or not set(names).issuperset(images.known):
        return images
    entries = (entry._replace(label=names[int(entry.label)]) if int(entry.label) < len(names) else entry for entry in images.entries)
    return replace(images, entries=tuple(entries), layout=BY_INDEX)


@dataclass(frozen=True)
class ReadImage:
    """An image that a worker has read.

    Attributes:
        index: the position of the image in its set.
        pixels: the transformed image, or None if it cannot be read.
        size: width and height in the file, or those of the upright image if it is turned.
        digest: the SHA-256 of the file's content.
        error: the reason why the image cannot be read; otherwise empty.
        label: the index of its class if the image comes from a stream; otherwise -1.
        orientation: the EXIF orientation, 1 to 8.
    """

    index: int
    pixels: Tensor | None = None
    size: tuple[int, int] = (0, 0)
    digest: bytes = b""
    error: str = ""
    label: int = -1
    orientation: int = 1


@dataclass
class Decoded(Dataset[ReadImage]):
    """The images of a set, decoded and transformed. An error is returned in the sample, so that the caller decides what to do."""

    images: ImageSet
    transform: Callable[..., Tensor]
    indices: Sequence[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> ReadImage:
        index = self.indices[position]
        entry = self.images.entries[index]
        content = b""
        try:
            content = self.images.read(entry)
            picture = images.decode(content, self.images.place(entry))
        except BadData as error:
            return ReadImage(index, digest=hashlib.sha256(content).digest(), error=str(error))
        except OSError as error:
            return ReadImage(index, error=f"{self.images.place(entry)} cannot be read ({error.strerror})")
        if self.images.upright:
            picture = picture.upright()
        digest = hashlib.sha256(content).digest()
        return ReadImage(index, self.transform(picture.image), picture.size, digest, orientation=picture.orientation)
