"""Stamps: which file of a weight was verified, and what told it from others then, so that its digest need not be computed each time."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from trickzoo.files import Identity, home, write_atomically

log = logging.getLogger("trickzoo")


@dataclass(frozen=True)
class WeightFile:
    """A verified file.

    Attributes:
        sha256: digest of the file at `path`.
        source: where it came from. `revision`: commit of the hub repository.
        upstream_sha256: digest of the file that the source serves, where `path` is a conversion of it.
        identity: of the very file that was verified; what is loaded must have it still.
    """

    name: str
    path: Path
    sha256: str
    source: str
    revision: str | None = None
    upstream_sha256: str | None = None
    identity: Identity | None = field(default=None, repr=False, compare=False)


class Stamp(msgspec.Struct, frozen=True):
    """What was verified, and the file's size, modification time and inode then."""

    path: str
    sha256: str
    source: str
    revision: str | None
    upstream_sha256: str | None
    size: int
    mtime_ns: int
    inode: int

    def is_of(self, found: os.stat_result) -> bool:
        """Whether the file is still as it was when it was verified."""
        return (found.st_size, found.st_mtime_ns, found.st_ino) == (self.size, self.mtime_ns, self.inode)


def place(name: str) -> Path:
    """Where the stamp of a weight is kept."""
    return home() / "verified" / f"{name}.json"


def read(name: str) -> Stamp | None:
    """The stamp of a weight; None if there is none, or one of another version: the file is then verified anew."""
    try:
        return msgspec.json.decode(place(name).read_bytes(), type=Stamp)
    except (OSError, ValueError, RecursionError):
        return None


def write(file: WeightFile) -> None:
    """Stamp a verified file. A cache that cannot be written still serves; its files are only verified each time."""
    assert file.identity is not None
    stamp = Stamp(
        path=str(file.path),
        sha256=file.sha256,
        source=file.source,
        revision=file.revision,
        upstream_sha256=file.upstream_sha256,
        size=file.identity.size,
        mtime_ns=file.identity.mtime_ns,
        inode=file.identity.inode,
    )
    try:
        write_atomically(place(file.name), msgspec.json.encode(stamp))
    except OSError as error:
        log.info("no stamp written for %s: %s", file.name, error)
