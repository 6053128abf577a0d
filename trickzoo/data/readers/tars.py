"""Listing the members of untrusted tar files: headers are read one by one, in bounded memory, and nothing is extracted."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Literal, NamedTuple

from trickzoo.errors import BadData

HEADER_LIMIT = 1 << 20
"""How many bytes the headers of one member may have. A long name or a pax header takes a few hundred."""


class Member(NamedTuple):
    """A member of a tar file: its path without a leading "./", its kind, and the offset and the size of its content in bytes."""

    name: str
    kind: Literal["file", "folder", "other"]
    offset: int
    size: int


def members(file: IO[bytes], name: str, *, what: str = "not a whole, uncompressed tar") -> Iterator[Member]:
    """Yield the members of an uncompressed tar file in order.

    The memory needed does not depend on what the headers claim.

    Args:
        file: the tar file.
        name: its name, for messages.
        what: what the file is if it is not a tar file, for messages.

    Raises BadData if the file is damaged or truncated, or has sparse members, whose content is not in one piece.
    """
    headers = _Headers(file)
    try:
        with tarfile.open(fileobj=headers, mode="r:", encoding="utf-8", errors="backslashreplace") as tar:  # type: ignore[call-overload]
            while (member := tar.next()) is not None:
                tar.members.clear()
                headers.left = HEADER_LIMIT
                if member.size < 0:
                    raise tarfile.ReadError(f"{member.name} has a size of {member.size:,} bytes")
                if member.issparse():
                    raise BadData(f"{name}: {member.name} is a sparse member; pack the archive again without --sparse")
                kind: Literal["file", "folder", "other"] = "file" if member.isreg() else "folder" if member.isdir() else "other"
                yield Member(_plain(member.name), kind, member.offset_data, member.size)
            end = tar.offset
        file.seek(end)  # where tarfile found no further header; it does not report an archive that is truncated there
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise BadData(f"{name} is cut short or damaged at byte {end:,}; copy or download it again")
    except BadData:
        raise
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:  # errors that damaged or malicious headers cause
        raise BadData(f"{name} is {what} ({error}); copy or download it again") from None
    except OSError as error:
        raise BadData(f"{name} cannot be read ({error.strerror or error})") from None


def _plain(name: str) -> str:
    """Return a member's path without the leading "./" that some programs write. Absolute paths and ".." are left as they are."""
    return name if name.startswith("/") else PurePosixPath(name).as_posix()


class _Headers:
    """A file from which tarfile reads headers. The bytes read for one member are limited, because tarfile trusts the claimed sizes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.left = HEADER_LIMIT

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self.left:
            raise tarfile.ReadError("a header claims an impossible size")
        self.left -= size
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
