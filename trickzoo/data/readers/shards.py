"""Tar shards in the webdataset convention: the files of a sample share a key, which is the path up to the first dot of the file's name.

A sample has an image (`key.jpg`, png or another supported format) and a label, a number or a word, in `key.cls` or as "cls" or "label" in
`key.json`. Shards are indexed and nothing is extracted, so images can be read in any order, and order and resuming are the same as for
single files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

import msgspec

from trickzoo.data import images as image_files
from trickzoo.data.classes import class_list, classes_of_labels
from trickzoo.data.exports import folders_of_splits
from trickzoo.data.imageset import Entry, ImageSet
from trickzoo.data.layouts import SPLIT_NAMES
from trickzoo.data.listing import CLASS_LIST
from trickzoo.data.readers.imagenet import DISTRIBUTED
from trickzoo.data.readers.tars import Member, members
from trickzoo.errors import BadData
from trickzoo.files import home, open_regular, reading, write_atomically
from trickzoo.wording import count

IMAGES = frozenset(suffix.removeprefix(".") for suffix in image_files.EXTENSIONS)
LABELS = ("cls", "json")  # the first one that has a label is used
MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)")
COMPRESSED = ("*.tar.gz", "*.tgz", "*.tar.zst", "*.tar.bz2", "*.tar.xz")
LABEL_BYTES, LABEL_LENGTH = 1 << 20, 255
"""Limits of the file that holds a label, in bytes, and of the label itself, in characters."""
SPLITS_IN_NAMES = {split: re.compile(rf"(?<![a-z])({'|'.join(names)})(?![a-z])", re.IGNORECASE) for split, names in SPLIT_NAMES.items()}
"""The names of a split as whole words: "val-0.tar" and "Val0.tar" are shards of val, "oval.tar" is not."""
INDEX_VERSION = 3
"""The version of the stored index. An index of another version is built again."""


def find_shards(path: Path, split: str) -> list[Path]:
    """Return the shards of a split: those in `train/` or `val/`, or those with the split as a word in their names, or otherwise all.

    The result is empty if `path` contains no shards. Raises BadData if there are shards of the other split only, or compressed shards.
    """
    folders = {name: found for name, folder in folders_of_splits(path).items() if (found := _shards(folder))}
    if split in folders:
        return folders[split]
    here = _shards(path)
    named = {name: [path for path in here if words.search(path.name)] for name, words in SPLITS_IN_NAMES.items()}
    others = [name for name in SPLIT_NAMES if name != split and (named[name] or name in folders)]
    if named[split] or (here and not any(named[name] for name in others)):
        return named[split] or here
    if others:
        raise BadData(
            f"{path} has shards, but none of {split}; put them in {split}/, put {split} into their names, "
            f"or evaluate the others: `trickzoo eval imagenet --split {others[0]}`"
        )
    return []


def _shards(folder: Path) -> list[Path]:
    """Return the shards directly in a folder.

    Raises BadData for compressed shards: finding one image would mean reading the whole shard.
    """
    if not folder.is_dir():
        return []
    packed = sorted(p for pattern in COMPRESSED for p in folder.glob(pattern) if _is_shard(p))
    if packed:
        raise BadData(f"{packed[0]} is compressed ({count(len(packed), 'such shard')}); decompress to .tar")
    return sorted(p for p in folder.glob("*.tar") if _is_shard(p))


def _is_shard(path: Path) -> bool:
    return path.is_file() and not path.name.startswith((DISTRIBUTED, "."))


@dataclass
class Index:
    """An index of shards, from their headers: the samples with their labels as written, and images that belong to no sample."""

    entries: list[Entry] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def open_folder(root: Path, split: str) -> ImageSet | None:
    """Return the images in the shards of a split, or None if there are no shards. Raises what `find_shards` and `open_shards` raise."""
    shards = find_shards(root, split)
    return open_shards(shards, root) if shards else None


def open_shards(shards: Sequence[Path], root: Path) -> ImageSet:
    """Open the images of shards below `root`.

    `classes.txt` beside the shards or in `root`, with one class per line, names labels that are numbers. The first call reads the headers
    of all shards and stores an index in the package's home, which is used until the name, size or modification time of a shard changes.
    Raises BadData for a damaged shard, an image without a label or a label without an image.
    """
    stats = [(str(shard.resolve()), shard.stat().st_size, shard.stat().st_mtime_ns) for shard in shards]
    identity = json.dumps([INDEX_VERSION, str(root.resolve()), stats]).encode()
    kept = home() / "shards" / f"{hashlib.sha256(identity).hexdigest()[:32]}.json"
    index = _stored(kept, {shard.relative_to(root).as_posix(): shard.stat().st_size for shard in shards})
    if index is None:
        index = Index()
        for shard in shards:
            _add(index, shard, shard.relative_to(root).as_posix())
        with contextlib.suppress(OSError, UnicodeEncodeError):  # without it the next call reads the headers again
            write_atomically(kept, msgspec.json.encode(index))
    if not index.entries:
        raise BadData(f"{root}: there is no image (jpg, png, …) in {count(len(shards), 'shard')}")
    lists = [folder / CLASS_LIST for folder in (shards[0].parent, root) if (folder / CLASS_LIST).is_file()]
    names = class_list(str(lists[0])) if lists else ()
    try:
        labels, order = classes_of_labels([entry.label for entry in index.entries], names)
    except BadData as error:
        raise BadData(f"{root}: {error}") from None
    images = tuple(entry._replace(label=label) for entry, label in zip(index.entries, labels, strict=True))
    return ImageSet(root, count(len(shards), "tar shard"), images, unread=tuple(index.unread), order=order)


def _stored(path: Path, sizes: dict[str, int]) -> Index | None:
    """Return a stored index, or None if there is none, or if it is damaged: every image must lie within a shard. `sizes` are in bytes."""
    try:
        index = msgspec.json.decode(path.read_bytes(), type=Index)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    whole = all(0 <= entry.offset <= entry.offset + entry.size <= sizes.get(entry.file, -1) for entry in index.entries)
    return index if whole else None


def _add(index: Index, path: Path, name: str) -> None:
    """Add the samples of a shard to the index. Raises BadData if the shard is damaged."""
    with reading(path), open_regular(path) as file, open_regular(path) as content:
        shard = _Shard(path, content)
        for member in members(file, str(path)):
            shard.add(member)
    index.entries += [Entry(f"{name}/{m.name}", label, m.offset, m.size, name) for m, label in shard.samples()]
    index.unread += [f"{name}/{member}" for member in shard.unread()]


class _Shard:
    """The members of one shard, sorted by the keys of their samples."""

    def __init__(self, path: Path, content: IO[bytes]) -> None:
        self.path, self.content = path, content
        self.images: dict[str, Member] = {}
        self.labels: dict[str, dict[str, str]] = {}
        self.dotted: list[tuple[str, Member]] = []
        self.hidden: list[str] = []

    def add(self, member: Member) -> None:
        """Add a member to its sample. Raises BadData for a link, a label that cannot be read, or a second image or label of one key."""
        suffix = PurePosixPath(member.name).suffix.lower().removeprefix(".")
        is_image, is_label = suffix in IMAGES, suffix in LABELS
        if member.kind == "folder" or not (is_image or is_label):
            return
        match = MEMBER.fullmatch(member.name)
        if match is None:  # the name of the file begins with a dot
            self.hidden += [member.name] if is_image else []
        elif member.kind == "other":
            raise BadData(f"{self.path}: {member.name} is a link or a device; shards hold the files themselves")
        elif match[2].lower() in IMAGES:
            if other := self.images.get(match[1]):
                raise BadData(f"{self.path}: {other.name} and {member.name} have one key; an image needs a key of its own")
            self.images[match[1]] = member
        elif match[2].lower() in LABELS:
            if label := _label(self.content, member, suffix, self.path):
                if suffix in self.labels.setdefault(match[1], {}):
                    raise BadData(f"{self.path}: {member.name} is there twice; a key belongs to one sample")
                self.labels[match[1]][suffix] = label
        elif is_image or suffix == "cls":
            self.dotted.append((match[1], member))

    def samples(self) -> Iterator[tuple[Member, str]]:
        """Yield each image with its label. Raises BadData for an image without a label, or a label without an image."""
        for key, member in self.images.items():
            if key not in self.labels:
                raise BadData(f'{self.path}: {member.name} has no label; {key}.cls, or {key}.json with "cls" or "label", belongs beside it')
            yield member, next(self.labels[key][kind] for kind in LABELS if kind in self.labels[key])
        for key in sorted(self.labels.keys() - self.images.keys()):
            raise BadData(f"{self.path}: {key} has a label and no image (jpg, png, …)")
        for key, member in self.dotted:
            if key not in self.images or member.name.lower().endswith(".cls"):
                kind = "an image without a label" if key not in self.images else "a label without an image"
                raise BadData(
                    f"{self.path}: {member.name} is {kind}: a name is cut at its first dot, so its sample is {key}; "
                    "write the shards again with names that have no other dot"
                )

    def unread(self) -> list[str]:
        """Return the images that are not read: additional images of a sample, and images whose names begin with a dot."""
        return [member.name for _, member in self.dotted] + self.hidden


def _label(content: IO[bytes], member: Member, extension: str, path: Path) -> str:
    """Return the label as it is written, or an empty string for a JSON file without a label. Raises BadData if it cannot be read."""
    wrong = f"{path}: {member.name} is not a label"
    if member.size > LABEL_BYTES:
        raise BadData(f"{wrong} (it has {member.size:,} bytes; {LABEL_BYTES:,} are the most)")
    content.seek(member.offset)
    try:
        text = content.read(member.size).decode()
        if extension == "cls":
            label = text.strip()
            if not label:
                raise ValueError("it is empty")
        else:
            fields = json.loads(text)
            found = [fields[name] for name in ("cls", "label") if name in fields] if isinstance(fields, dict) else []
            label = str(found[0]) if found and isinstance(found[0], int | str) else ""
    except (ValueError, RecursionError) as error:
        raise BadData(f"{wrong} ({error})") from None
    if len(label) > LABEL_LENGTH:
        raise BadData(f"{wrong} (it has {len(label):,} characters; {LABEL_LENGTH} are the most)")
    return label
