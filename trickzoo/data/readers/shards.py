"""Tar shards in the webdataset convention: the files of a sample share a key, which is the path up to the first dot of the file's name.

A sample has an image (`key.jpg`, jpeg, png or webp) and a label, a number or a word: `key.cls`, or "cls" or "label" in `key.json`.
Shards are indexed and nothing is extracted, so every image can be had at once: order and resumption are those of single files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from trickzoo.data.classes import class_list, classes_of_labels
from trickzoo.data.imageset import Entry, ImageSet
from trickzoo.data.readers.imagenet import DISTRIBUTED, SPLITS
from trickzoo.errors import BadData
from trickzoo.files import home, write_atomically

IMAGES = ("jpg", "jpeg", "png", "webp")
LABELS = ("cls", "json")  # the first that says it
NAMES = "classes.txt"
MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)")


def find_shards(path: Path, split: str) -> list[Path]:
    """The shards of a split: in `train/` or `val/`, or with the split in their names, or else all; empty if `path` holds no shards.

    Raises BadData if there are shards of the other split only.
    """
    for name in SPLITS[split]:
        if found := _shards(path / name):
            return found
    here = _shards(path)
    (other,) = SPLITS.keys() - {split}
    mine, others = ([p for p in here if word in p.name] for word in (split, other))
    if mine or (here and not others):
        return mine or here
    if others or any(_shards(path / name) for names in SPLITS.values() for name in names):
        raise BadData(
            f"{path} has shards, but none of {split}; put them in {split}/, put {split} into their names, "
            f"or evaluate the others: trickzoo-eval imagenet --split {other}"
        )
    return []


def _shards(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.tar") if p.is_file() and not p.name.startswith(DISTRIBUTED)) if folder.is_dir() else []


def open_shards(shards: Sequence[Path], root: Path) -> ImageSet:
    """The images of shards below `root`. `classes.txt` beside them or in `root`, one class a line, names labels that are numbers.

    The first call reads the headers of all shards and keeps what it found in the store's home, for as long as their names, sizes and times
    of modification stay. Raises BadData for a shard that is damaged or a sample without image or label.
    """
    stats = [(str(shard.resolve()), shard.stat().st_size, shard.stat().st_mtime_ns) for shard in shards]
    kept = home() / "shards" / f"{hashlib.sha256(json.dumps([str(root.resolve()), stats]).encode()).hexdigest()[:32]}.json"
    try:
        entries = msgspec.json.decode(kept.read_bytes(), type=list[Entry])
    except (OSError, msgspec.DecodeError):
        entries = [entry for shard in shards for entry in _index(shard, shard.relative_to(root).as_posix())]
        with contextlib.suppress(OSError, UnicodeEncodeError):  # without it the next call reads the headers again
            write_atomically(kept, msgspec.json.encode(entries))
    if not entries:
        raise BadData(f"{root}: there is no image ({', '.join(IMAGES)}) in {len(shards)} shards")
    lists = [folder / NAMES for folder in (shards[0].parent, root) if (folder / NAMES).is_file()]
    names = class_list(str(lists[0])) if lists else ()
    try:
        labels, order = classes_of_labels([entry.label for entry in entries], names)
    except BadData as error:
        raise BadData(f"{root}: {error}") from None
    images = tuple(entry._replace(label=label) for entry, label in zip(entries, labels, strict=True))
    return ImageSet(root, f"{len(shards)} tar shards", images, order=order)


def _index(path: Path, name: str) -> Iterator[Entry]:
    """The samples of a shard, in its order; `label` is still as it is written."""
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, dict[str, str]] = {}
    try:
        with tarfile.open(path, "r:", encoding="utf-8", errors="backslashreplace") as tar:
            for member in tar:
                match = MEMBER.fullmatch(member.name)
                if not member.isreg() or match is None:
                    continue
                key, extension = match[1], match[2].lower()
                if extension in IMAGES:
                    if key in images:
                        raise BadData(f"{path}: {images[key].name} and {member.name} have one key; an image needs a key of its own")
                    images[key] = member
                elif extension in LABELS and (label := _label(tar, member, extension, path)):
                    if extension in labels.setdefault(key, {}):
                        raise BadData(f"{path}: {member.name} is there twice; a key belongs to one sample")
                    labels[key][extension] = label
            end = tar.offset
        with path.open("rb") as file:
            file.seek(end)  # where tarfile met no further header; it says nothing of an archive that is cut there
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise BadData(f"{path} is cut short or damaged at byte {end:,}; copy or download it again")
    except tarfile.TarError as error:
        raise BadData(f"{path} is not a whole, uncompressed tar ({error}); copy or download it again") from None
    except OSError as error:
        raise BadData(f"{path} cannot be read ({error.strerror})") from None
    for key, member in images.items():
        if key not in labels:
            raise BadData(f'{path}: {member.name} has no label; {key}.cls, or {key}.json with "cls" or "label", belongs beside it')
        label = next(labels[key][kind] for kind in LABELS if kind in labels[key])
        yield Entry(f"{name}/{member.name}", label, member.offset_data, member.size, name)
    for key in sorted(labels.keys() - images.keys()):
        raise BadData(f"{path}: {key} has a label and no image ({', '.join(IMAGES)})")


def _label(tar: tarfile.TarFile, member: tarfile.TarInfo, extension: str, path: Path) -> str:
    """The label as it is written; empty if a json has none."""
    file = tar.extractfile(member)
    assert file is not None
    try:
        text = file.read().decode()
        if extension == "cls":
            if not text.strip():
                raise ValueError("it is empty")
            return text.strip()
        content = json.loads(text)
    except ValueError as error:
        raise BadData(f"{path}: {member.name} is not a label ({error})") from None
    found = [content[field] for field in ("cls", "label") if field in content] if isinstance(content, dict) else []
    return str(found[0]) if found and isinstance(found[0], int | str) else ""
