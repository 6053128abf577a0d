"""Data sets of the hub, opened by the datasets library: hf:OWNER/NAME, or hf:PATH of a local folder that it can load.

`@REVISION` may follow, and `?config=…&image=…&label=…` for a set with several configurations or columns.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec

from trickzoo.data import images
from trickzoo.data.classes import synsets
from trickzoo.data.layouts import HUB
from trickzoo.errors import BadData, BadOption, TrickzooError, nearest
from trickzoo.files import read_regular
from trickzoo.wording import count

if TYPE_CHECKING:
    from datasets import IterableDataset

SPLITS = {"train": ("train",), "val": ("validation", "val", "valid", "test"), "test": ("test",)}  # the first one that the set has is used
LABELS = ("label", "labels", "cls", "class")


@dataclass(frozen=True)
class Source:
    """A split of a data set.

    Attributes:
        name: the name of the set as the user wrote it.
        split: the name of the split in the set.
        rows: the rows in order, as {image: {bytes, path}, label}.
        image, label: the names of the columns.
        digest: the SHA-256 over the files' revision or times, and the columns.
        n: the number of images, or None if the set does not state it.
        classes: the names of the classes in the order of the labels; empty if labels have no names.
    """

    name: str
    split: str
    rows: IterableDataset
    image: str
    label: str
    digest: str
    n: int | None
    classes: tuple[str, ...]

    def content(self, row: dict[str, Any], name: str) -> tuple[str, bytes]:
        """Return the name of a row's image, with its path if it has one, and its bytes. Raises BadData if the row has no image."""
        image = row[self.image] or {}
        path, content = image.get("path"), image.get("bytes")
        name = f"{name} ({path})" if path else name
        if content is None and path:
            content = _content_at(path)
        if content is None:
            raise BadData(f"{self.name}: {name} has no image")
        return name, content

    def label_of(self, row: dict[str, Any], name: str) -> int | str:
        """Return a row's label. Raises BadData if the row has no label, or a label that is not an index into `classes` if there are any."""
        label = row[self.label]
        if not isinstance(label, int | str):
            raise BadData(f"{self.name}: {name} has no label, which is a number or a word, in {self.label}")
        if self.classes and not 0 <= int(label) < len(self.classes):
            raise BadData(f"{self.name}: {name} has no label: {label} is not among the {count(len(self.classes), 'class')}")
        return label


def _content_at(path: str) -> bytes:
    """Return the bytes of an image by its path or its address. Raises OSError if it cannot be read or is not a regular file."""
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    system, place = fsspec.core.url_to_fs(path)
    if isinstance(system, LocalFileSystem):
        return read_regular(Path(place), at_most=images.MAX_FILE)
    with system.open(place, "rb") as file:
        content: bytes = file.read()
    return content


def open_source(text: str, split: str) -> Source:
    """Find a split and its columns.

    Raises BadData if there is no such set or split, or if a column has to be named; BadOption if the datasets library is not installed.
    """
    place, _, query = text.removeprefix(HUB).partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    for key in options:
        if key not in ("config", "image", "label"):
            raise BadOption(f'{text}: no option "{key}"{nearest(key, ("config", "image", "label"))}; there are config, image, label')
    revision = None
    if not Path(place).exists() and "@" in place:
        place, _, revision = place.rpartition("@")
    try:
        import datasets
    except ImportError:
        raise BadOption(f"{text} needs the datasets library; pip install 'trickzoo[hub-data]'") from None
    with errors_as_bad_data(text):
        builder = datasets.load_dataset_builder(place, options.get("config"), revision=revision)
        splits = builder.as_streaming_dataset()
        name = next((name for name in SPLITS[split] if name in splits), None)
        if name is None:
            raise BadData(f"{text} has no {split} split; it has {', '.join(splits)}")
        rows = splits[name]
        features = rows.features or {}
        image = _column(text, "image", options, [c for c, kind in features.items() if isinstance(kind, datasets.Image)], features)
        named = [c for c, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
        label = _column(text, "label", options, named or [c for c in features if c in LABELS], features)
        rows = rows.select_columns([image, label]).cast_column(image, datasets.Image(decode=False))
        known = (builder.info.splits or {}).get(name)
    n = known.num_examples if known is not None else None
    names = features[label].names if isinstance(features[label], datasets.ClassLabel) else []
    if not all(isinstance(each, str) for each in names):
        raise BadData(f"{text}: the names of the classes of {label} are not all text; put quotes around them in the card of the set")
    classes = synsets(names)
    identity = [str(Path(place).resolve()) if Path(place).exists() else place, builder.hash, options.get("config"), name, image, label]
    return Source(text, name, rows, image, label, hashlib.sha256(msgspec.json.encode(identity)).hexdigest(), n, classes)


def _column(text: str, what: str, options: dict[str, str], found: list[str], features: dict[str, Any]) -> str:
    """Return the column that the user names, or the only one that was found.

    Raises BadData if there is no such column, or not exactly one.
    """
    if what in options:
        if options[what] not in features:
            raise BadData(f'{text} has no column "{options[what]}"{nearest(options[what], features)}; it has {", ".join(features)}')
        return options[what]
    if len(found) != 1:
        several = (
            f"several {what} columns ({', '.join(found)})" if found else f"no column of type {what} (the columns are {', '.join(features)})"
        )
        raise BadData(f"{text} has {several}; name it with ?{what}=COLUMN")
    return found[0]


@contextlib.contextmanager
def errors_as_bad_data(text: str) -> Iterator[None]:
    """Raise BadData for any error of the datasets library in the block. For a damaged set, its readers raise errors of many types."""
    try:
        yield
    except TrickzooError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        hint = "; name it with ?config=NAME" if "Config name is missing" in reason else ""
        raise BadData(f"{text} cannot be read: {reason.partition(' Example of usage')[0]}{hint}") from None
