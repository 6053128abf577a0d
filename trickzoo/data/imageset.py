"""Labelled images, wherever they come from, and reading them in workers."""

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
from trickzoo.files import open_regular, read_regular

BY_SYNSET, BY_INDEX, BY_NAME = (f"class folders by {what}" for what in ("synset", "index", "name"))


class Entry(NamedTuple):
    """One image: its path within the set, its class, and where its bytes are: offset and size in a file, which is the root or below it."""

    name: str
    label: str
    offset: int = -1
    size: int = -1
    file: str = ""

    @property
    def identity(self) -> bytes:
        """The name as digests take it, whether it is text or the bytes of a name that is not UTF-8."""
        return self.name.encode("utf-8", "surrogatepass") + b"\0"


@dataclass(frozen=True)
class ImageSet:
    """A labelled set of images.

    Attributes:
        root: the folder that the entries' names are below, or the tar that holds them.
        layout: what was found, in words.
        empty: class folders without an image.
        strangers: files that are not read, because they are not named as images, are hidden, or belong to no sample.
        order: all classes in the set's own order, where it has one.
    """

    root: Path
    layout: str
    entries: tuple[Entry, ...]
    empty: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()
    order: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_names({entry.label for entry in self.entries}, self.root)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that occur, in the set's own order or sorted."""
        found = {entry.label for entry in self.entries}
        return tuple(name for name in self.order if name in found) if self.order else tuple(sorted(found))

    @functools.cached_property
    def upright(self) -> bool:
        """Whether its images are turned upright by their EXIF orientation (`turns_upright`)."""
        return turns_upright(self.classes)

    def place(self, entry: Entry) -> str:
        """Where an image is, for messages."""
        return str(self.root / entry.name)

    def stamps(self) -> Iterator[str]:
        """Size and time of modification of each file that holds images. Raises BadData for a file that is not there."""
        for name in dict.fromkeys(entry.name if entry.offset < 0 else entry.file for entry in self.entries):
            try:
                stat = (self.root / name).stat()
            except OSError as error:
                raise BadData(f"{self.root / name} cannot be read ({error.strerror})") from None
            yield f"{stat.st_size} {stat.st_mtime_ns}"

    def size(self, entry: Entry) -> int:
        """How many bytes an image's file has. Raises OSError if it is not there."""
        return (self.root / entry.name).stat().st_size if entry.offset < 0 else entry.size

    def read(self, entry: Entry, *, last: int | None = None) -> bytes:
        """The bytes of an image's file, or no more than the `last` of them.

        Raises OSError if it cannot be read, is not a regular file, or has more than `images.MAX_FILE`.
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
    """Whether images of these classes are turned upright by their EXIF orientation: all but those of ImageNet's classes.

    What is published of ImageNet was measured on the pixels as they are stored.
    """
    return not set(classes).issubset(imagenet1k())


def as_known(images: ImageSet, classes: Iterable[str]) -> ImageSet:
    """The set as one who knows these classes sees it: where they are ImageNet-1k's, folders that are called by some of 0 … 999 are too.

    The folders alone do not say it: 0, 1 and 2 may be anybody's classes.
    """
    names = imagenet1k()
    if images.layout != BY_NAME or not all(name.isdecimal() for name in images.classes) or not set(names).issuperset(classes):
        return images
    entries = (entry._replace(label=names[int(entry.label)]) if int(entry.label) < len(names) else entry for entry in images.entries)
    return replace(images, entries=tuple(entries), layout=BY_INDEX)


@dataclass(frozen=True)
class Sample:
    """An image as a worker hands it over; `pixels` is None and `error` says why if it cannot be read.

    Attributes:
        size: width and height in the file; of the upright image where it is turned.
        digest: the SHA-256 of its content.
        label: the index of its class where a stream gave it.
        orientation: EXIF's, 1 to 8.
    """

    index: int
    pixels: Tensor | None = None
    size: tuple[int, int] = (0, 0)
    digest: bytes = b""
    error: str = ""
    label: int = -1
    orientation: int = 1


@dataclass
class Decoded(Dataset[Sample]):
    """The images of a set, decoded and transformed. Errors are handed over, not raised, so that the caller decides."""

    images: ImageSet
    transform: Callable[..., Tensor]
    indices: Sequence[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Sample:
        index = self.indices[position]
        entry = self.images.entries[index]
        content = b""
        try:
            content = self.images.read(entry)
            picture = images.decode(content, self.images.place(entry))
        except BadData as error:
            return Sample(index, digest=hashlib.sha256(content).digest(), error=str(error))
        except OSError as error:
            return Sample(index, error=f"{self.images.place(entry)} cannot be read ({error.strerror})")
        if self.images.upright:
            picture = picture.upright()
        digest = hashlib.sha256(content).digest()
        return Sample(index, self.transform(picture.image), picture.size, digest, orientation=picture.orientation)
