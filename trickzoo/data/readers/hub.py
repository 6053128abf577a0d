"""Data sets of the hub, read by the datasets library: hf:OWNER/NAME, or hf:PATH of a local folder that it can load.

`@REVISION` may follow, and `?config=…&image=…&label=…` for a set with several configurations or columns.
Training streams the images, in the order of the library's shuffle, which is drawn from (seed, epoch). Everything else copies a split once.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec
import torch
from filelock import FileLock
from torch import Tensor
from torch.utils.data import Dataset

from trickzoo.data import images
from trickzoo.data.batches import BatchPlan
from trickzoo.data.classes import classes_of_labels, synsets
from trickzoo.data.identity import set_digest
from trickzoo.data.imageset import Entry, ImageSet, ReadImage, turns_upright
from trickzoo.data.layouts import HUB
from trickzoo.data.loaders import random_crops, say_orientation, stacked
from trickzoo.data.prefetch import to_device
from trickzoo.data.workers import in_workers
from trickzoo.errors import BadData, BadOption, TrickzooError, nearest
from trickzoo.files import home, read_regular, write_atomically
from trickzoo.recipes.recipe import Augmentation

if TYPE_CHECKING:
    from datasets import IterableDataset

log = logging.getLogger("trickzoo")

SPLITS = {"train": ("train",), "val": ("validation", "val", "valid", "test"), "test": ("test",)}  # the first one that the set has is used
LABELS = ("label", "labels", "cls", "class")
ENTRIES, IMAGES = "entries.json", "images"
BUFFER = 2_000
"""How many images the shuffle draws from, in addition to shuffling the files: about 200 MB of JPEGs of ImageNet's size."""


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
            raise BadData(f"{self.name}: {name} has no label: {label} is none of {len(self.classes)} classes")
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
    with _plainly(text):
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
            f"several {what} columns ({', '.join(found)})" if found else f"no {what} column that can be told (of {', '.join(features)})"
        )
        raise BadData(f"{text} has {several}; name it with ?{what}=COLUMN")
    return found[0]


@contextlib.contextmanager
def _plainly(text: str) -> Iterator[None]:
    """Raise BadData for any error of the datasets library in the block. For a damaged set, its readers raise errors of many types."""
    try:
        yield
    except TrickzooError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        hint = "; name it with ?config=NAME" if "Config name is missing" in reason else ""
        raise BadData(f"{text} cannot be read: {reason.partition(' Example of usage')[0]}{hint}") from None


# ---------------------------------------------------------------------------------------------------------------------
# a copy


def open_hub(text: str, split: str) -> ImageSet:
    """Open the images of a split. The first call copies the bytes of all image files into one file in the package's home.

    Two processes may call this at once: one copies, and the other waits. Raises what `open_source` raises, and BadData for a row without
    image or label.
    """
    source = open_source(text, split)
    place = home() / "hub" / source.digest[:32]
    kept = _kept(place)
    if kept is None:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.parent / f".{place.name}.lock"):
            kept = _kept(place)
            if kept is None:
                if place.exists():
                    log.warning("%s is copied again, because the copy in %s is damaged", text, place)
                kept = _copy(source, place)
    if not kept:
        raise BadData(f"{text}: the split {source.split} is empty")
    labels, order = classes_of_labels([label for _, label, _, _ in kept], source.classes)
    file = str((place / IMAGES).absolute())
    entries = tuple(Entry(name, label, offset, size, file) for (name, _, offset, size), label in zip(kept, labels, strict=True))
    return ImageSet(Path(text), f"hub data set, split {source.split}", entries, order=order)


Kept = list[tuple[str, int | str, int, int]]
"""For each image, its name, its label, and the offset and the size of its bytes in the copy."""


def _kept(place: Path) -> Kept | None:
    """Return the entries of a copy, or None if there is no copy or it is incomplete."""
    try:
        kept = msgspec.json.decode((place / ENTRIES).read_bytes(), type=Kept)
        size = (place / IMAGES).stat().st_size
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return kept if size == sum(length for *_, length in kept) else None


def _copy(source: Source, place: Path) -> Kept:
    """Write images and entries to a temporary folder, and rename it once it is complete. Returns the entries."""
    scratch = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    try:
        entries: Kept = []
        with (scratch / IMAGES).open("wb") as file, _plainly(source.name):
            for position, row in enumerate(source.rows):
                name, content = source.content(row, f"{source.split}/{position}")
                entries.append((name, source.label_of(row, name), file.tell(), len(content)))
                file.write(content)
        write_atomically(scratch / ENTRIES, msgspec.json.encode(entries))
        if place.exists():
            shutil.rmtree(place)
        os.replace(scratch, place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return entries


# ---------------------------------------------------------------------------------------------------------------------
# a stream


class HubStream:
    """Training images that are streamed from the hub, in the order of a shuffle that is drawn from (seed, epoch).

    The order does not depend on the number of workers or processes: each process reads the whole stream and decodes its share. A training
    that is resumed within an epoch reads the epoch from its beginning again. Raises BadData if the set does not state its number of images
    and its classes.
    """

    labels = None

    def __init__(self, text: str, *, workers: int = 2, buffer: int = BUFFER) -> None:
        source = open_source(text, "train")
        if source.n is None or not source.classes:
            missing = "how many images it has" if source.n is None else f"which classes the labels in {source.label} are"
            raise BadData(f"{text} does not say {missing}, so it cannot be streamed; --decode once reads all of it first")
        self.n, self.source, self.workers, self.buffer = source.n, source, workers, buffer
        self.ahead = workers > 0
        self.classes = source.classes
        self.upright = turns_upright(source.classes)
        self.digest = set_digest(hashlib.sha256(f"{source.digest} {buffer}".encode()).hexdigest(), source.classes, stamps=[str(source.n)])

    def __len__(self) -> int:
        return self.n

    def crops(
        self, plan: BatchPlan, size: int, augmentation: Augmentation, device: torch.device, *, seed: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield random crops and labels, as `TrainingImages.crops` does, for indices in rising order.

        Raises BadData with the position of an image that cannot be read.
        """
        for samples in in_workers(_Crops(size, augmentation, self.upright), self._keys(plan, seed), self.workers):
            say_orientation(samples, self.source.name)
            pixels = stacked(samples, lambda error: f"{self.source.name}: {error}", pinned=device.type == "cuda")
            yield to_device(pixels, device).float(), to_device(torch.tensor([sample.label for sample in samples]), device)

    def _keys(self, plan: BatchPlan, seed: int) -> Iterator[list[tuple[int, int, str, bytes, Tensor]]]:
        """Yield, for each image of each micro-batch, its index, label, name, bytes and draws."""
        shuffled = self.source.rows.shuffle(seed=seed, buffer_size=self.buffer)
        rows: Iterator[tuple[int, dict[str, Any]]] = iter(())
        reached = -1
        for indices, draws in plan:
            batch = []
            for index, row_draws in zip(indices.tolist(), draws, strict=True):
                epoch, position = divmod(index, self.n)
                if epoch != reached:
                    shuffled.set_epoch(epoch)
                    rows, reached = enumerate(shuffled), epoch
                with _plainly(self.source.name):
                    row = next((row for place, row in rows if place == position), None)
                    if row is None:
                        raise BadData(f"{self.source.name} ends before image {position} of the {self.n:,} that it says it has")
                    name, content = self.source.content(row, f"image {position} of epoch {epoch}")
                batch.append((index, int(self.source.label_of(row, name)), name, content, row_draws))
            yield batch


@dataclass
class _Crops(Dataset[ReadImage]):
    """Random crops of images whose bytes are part of their keys."""

    size: int
    augmentation: Augmentation
    upright: bool

    def __getitems__(self, keys: list[tuple[int, int, str, bytes, Tensor]]) -> list[ReadImage]:
        found = [(ReadImage(index, label=label), name, content, draws) for index, label, name, content, draws in keys]
        return random_crops(found, self.size, self.augmentation, upright=self.upright)
