"""The lock file, which pins the revision and the digest of weights for a user or a project."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from trickzoo.errors import BadManifest
from trickzoo.files import expanded, home, read_json, write_atomically, writing
from trickzoo.weights.record import Entry, Source


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """What the lock file requires of one weight.

    Attributes:
        source: the source of the record that is pinned, as text.
        sha256: the SHA-256 of the file that the source serves.
        revision: the commit of the hub repository.
        size: the size in bytes of the file that the source serves.
    """

    source: str
    sha256: str
    revision: str | None = None
    size: int | None = None


def lock_file() -> Path:
    """Return the path of the lock file: TRICKZOO_LOCK, by default weights.lock.json in `home()`."""
    own = os.environ.get("TRICKZOO_LOCK")
    return expanded(own) if own else home() / "weights.lock.json"


def read() -> dict[str, Pin]:
    """Return every pin by the name of its weight. Raises BadManifest if the file is not a lock file."""
    path = lock_file()
    try:
        found = msgspec.convert(read_json(path), dict[str, Pin])
        msgspec.json.encode(found)  # raises ValueError for half of a surrogate pair, which JSON can escape and UTF-8 cannot hold
        return found
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise BadManifest(f"{path}: not a lock file ({error}); delete it or restore it") from None


def write(entries: dict[str, Pin]) -> None:
    """Add pins to the lock file, or replace those of the same weights, while other processes wait.

    Raises NotWritten if the file cannot be written.
    """
    from filelock import FileLock

    path, remedy = lock_file(), "set TRICKZOO_LOCK to a file in a folder that can be written"
    with writing(path, remedy=remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            together = read() | entries
            ordered = {name: together[name] for name in sorted(together)}
            write_atomically(path, msgspec.json.format(msgspec.json.encode(ordered), indent=1) + b"\n", remedy=remedy)


def expected_sha256(record: Entry, source: Source) -> str | None:
    """Return the SHA-256, or its first digits, that a file of this source must have; None if neither manifest nor lock file states it."""
    pin = _pin(record, source)
    return source.sha256 or (pin.sha256 if pin else source.sha256_prefix)


def recorded(record: Entry) -> str:
    """Return how much of a SHA-256 is recorded for at least one source of a weight: "full", "8 digits" (or more), or "none"."""
    lengths = [len(digits) for source in record.sources if (digits := expected_sha256(record, source))]
    return "none" if not lengths else "full" if max(lengths) == 64 else f"{max(lengths)} digits"


def revision(record: Entry, source: Source) -> str | None:
    """Return the revision of the hub repository that a file must come from; None if neither manifest nor lock file states it."""
    pin = _pin(record, source)
    return source.revision or (pin.revision if pin else None)


def size(record: Entry, source: Source) -> int | None:
    """Return the size in bytes of a file of this source; None if neither manifest nor lock file states it."""
    pin = _pin(record, source)
    return source.size or (pin.size if pin else None)


def _pin(record: Entry, source: Source) -> Pin | None:
    pin = read().get(record.name)
    return pin if pin is not None and pin.source == str(source) else None
