"""The lock file: which revision and which digest of a weight this user or project has pinned, and so what a file must be."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from filelock import FileLock

from trickzoo.errors import BadManifest
from trickzoo.files import expanded, home, read_regular, write_atomically, writing
from trickzoo.weights.record import Record, Source


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """What a weight's file must be: its source, the commit of a hub repository, digest and size of what the source serves."""

    source: str
    sha256: str
    revision: str | None = None
    size: int | None = None


def lock_file() -> Path:
    """The file of pinned revisions and digests: TRICKZOO_LOCK, else weights.lock.json in `home()`."""
    own = os.environ.get("TRICKZOO_LOCK")
    return expanded(own) if own else home() / "weights.lock.json"


def read() -> dict[str, Pin]:
    """What is pinned, by the weight's name. Raises BadManifest if the file is no lock file."""
    path = lock_file()
    try:
        return msgspec.json.decode(read_regular(path), type=dict[str, Pin])
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except RecursionError:
        raise BadManifest(f"{path}: not a lock file (it is nested too deeply); delete it or restore it") from None
    except (OSError, ValueError) as error:
        raise BadManifest(f"{path}: not a lock file ({error}); delete it or restore it") from None


def write(entries: dict[str, Pin]) -> None:
    """Add entries to what is pinned, or replace them; other processes wait. Raises NotWritten if the file cannot be written."""
    path, remedy = lock_file(), "set TRICKZOO_LOCK to a file in a folder that can be written"
    with writing(path, remedy=remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            together = read() | entries
            ordered = {name: together[name] for name in sorted(together)}
            write_atomically(path, msgspec.json.format(msgspec.json.encode(ordered), indent=1) + b"\n", remedy=remedy)


def wanted(record: Record, source: Source) -> str | None:
    """The digest, or its first digits, that a file of this source must have."""
    pin = _pin(record, source)
    return source.sha256 or (pin.sha256 if pin else source.sha256_prefix)


def revision(record: Record, source: Source) -> str | None:
    """The commit of the hub repository that a file must be of."""
    pin = _pin(record, source)
    return source.revision or (pin.revision if pin else None)


def size(record: Record, source: Source) -> int | None:
    """Bytes that a file of this source has, if anybody says."""
    pin = _pin(record, source)
    return source.size or (pin.size if pin else None)


def _pin(record: Record, source: Source) -> Pin | None:
    pin = read().get(record.name)
    return pin if pin is not None and pin.source == str(source) else None
