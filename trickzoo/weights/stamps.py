"""Stamps, which record that a file was verified, so that its digest is computed again only after the file has changed."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from trickzoo.files import Identity, home, read_json
from trickzoo.result_files import write_json

log = logging.getLogger("trickzoo")


@dataclass(frozen=True)
class WeightFile:
    """A verified file of a weight.

    Attributes:
        name: the name of the weight.
        path: the path of the file.
        sha256: the SHA-256 of the file at `path`.
        source: the source of the record that the file came from, as text.
        revision: the commit of the hub repository, if the file came from the hub.
        upstream_sha256: the SHA-256 of the file that the source serves, if `path` is a conversion of it.
        identity: the identity of the file that was verified. The file that is loaded must have the same.
    """

    name: str
    path: Path
    sha256: str
    source: str
    revision: str | None = None
    upstream_sha256: str | None = None
    identity: Identity | None = field(default=None, repr=False, compare=False)


class Stamp(msgspec.Struct, frozen=True):
    """The fields of a `WeightFile`, with the size in bytes, the modification time and the inode of the file when it was verified."""

    path: str
    sha256: str
    source: str
    revision: str | None
    upstream_sha256: str | None
    size: int
    mtime_ns: int
    inode: int

    def is_of(self, found: os.stat_result) -> bool:
        """Return whether a file has the size, the modification time and the inode of this stamp."""
        return (found.st_size, found.st_mtime_ns, found.st_ino) == (self.size, self.mtime_ns, self.inode)


def place(name: str) -> Path:
    """Return the path of the stamp of a weight."""
    return home() / "verified" / f"{name}.json"


def read(name: str) -> Stamp | None:
    """Return the stamp of a weight; None if there is none or it cannot be read, in which case the file is verified again."""
    try:
        return msgspec.convert(read_json(place(name)), Stamp)
    except (OSError, ValueError):
        return None


def write(file: WeightFile) -> None:
    """Stamp a verified file. If the stamp cannot be written, the file is verified again at each use."""
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
        write_json(place(file.name), msgspec.structs.asdict(stamp))
    except OSError as error:
        log.info("no stamp written for %s: %s", file.name, error)
