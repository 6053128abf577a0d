"""Checks of MAT files (MATLAB, version 5) before scipy reads them: scipy allocates what an array's header claims, and unpacks any size."""

from __future__ import annotations

import math
import struct
import zlib

ENTRIES = 1 << 22
"""Entries that all arrays of a file may have together; every letter of a text is one. ImageNet's `meta.mat` has some hundred thousand."""
HEADER = 128
INT32, UINT32, MATRIX, COMPRESSED = 5, 6, 14, 15
CELL, STRUCT, CHAR = 1, 2, 4
NUMBERS = range(6, 16)  # double, single, and the integers of 8 to 64 bits
COMPLEX = 0x800


def checked(content: bytes, limit: int) -> bytes:
    """Return the MAT file with its compressed variables unpacked.

    Only text, numbers, cells and structs are allowed, and they must have the sizes that their headers claim.
    Raises ValueError, struct.error or zlib.error for any other content, or if the file has more than `limit` bytes unpacked.
    """
    if len(content) < HEADER or content[124:128] not in (b"\0\1IM", b"\1\0MI"):
        raise ValueError("it is not a MAT file of version 5")
    order = "<" if content[126:128] == b"IM" else ">"
    content = _uncompressed(content, order, limit)
    _Check(content, order).run()
    return content


def _uncompressed(content: bytes, order: str, limit: int) -> bytes:
    place, parts, left = HEADER, [content[:HEADER]], limit
    while place < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, place)
        end = place + 8 + size
        part = zlib.decompressobj().decompress(content[place + 8 : end], left + 1) if kind == COMPRESSED else content[place:end]
        left -= len(part)
        if left < 0:
            raise ValueError(f"it has more than {limit >> 20} MiB when unpacked")
        parts.append(part)
        place = end
    return b"".join(parts)


class _Check:
    """Checks an uncompressed file in the order in which scipy reads it. `place` is the position of the next byte."""

    def __init__(self, content: bytes, order: str) -> None:
        self.content, self.order, self.place, self.left = content, order, HEADER, ENTRIES

    def run(self) -> None:
        """Raise ValueError or struct.error if the file is not as its headers claim."""
        while self.place < len(self.content):
            self._matrix()

    def _words(self, count: int) -> tuple[int, ...]:
        found = struct.unpack_from(f"{self.order}{count}I", self.content, self.place)
        self.place += 4 * count
        return found

    def _element(self) -> tuple[int, bytes]:
        """Read the type and the bytes of an element: small ones have them in the second word of their tag, others are padded to 8 bytes."""
        kind, size = self._words(2)
        if kind >> 16:
            start, size, kind = self.place - 4, kind >> 16, kind & 0xFFFF
            if size > 4:
                raise ValueError("a small element is too large")
        else:
            start = self.place
            self.place += size + -size % 8
        if self.place > len(self.content):
            raise ValueError("it is cut short")
        return kind, self.content[start : start + size]

    def _matrix(self) -> None:
        """Read an array and all that it contains."""
        kind, size = self._words(2)
        end = self.place + size
        if kind != MATRIX:
            raise ValueError(f"it contains an element of type {kind} in place of an array")
        if not size:
            return
        flags_kind, flags_size, flags, _ = self._words(4)
        dims_kind, dims = self._element()
        if (flags_kind, flags_size) != (UINT32, 8) or dims_kind not in (INT32, UINT32):
            raise ValueError("the header of an array is damaged")
        sides = struct.unpack(f"{self.order}{len(dims) // 4}i", dims)
        count = math.prod(sides)
        self.left -= count
        if len(sides) < 2 or min(sides) < 0 or self.left < 0:
            raise ValueError(f"its arrays claim more than {ENTRIES:,} entries, or a negative number of them")
        self._element()  # the array's name
        self._entries(flags & 0xFF, count, parts=2 if flags & COMPLEX else 1)
        if self.place != end:
            raise ValueError("an array has another size than its header claims")

    def _entries(self, kind: int, count: int, *, parts: int) -> None:
        if kind in (CELL, STRUCT):
            for _ in range(count * (1 if kind == CELL else self._fields())):
                self._matrix()
        elif kind == CHAR or kind in NUMBERS:
            for _ in range(parts):
                self._element()
        else:
            raise ValueError(f"it contains an array of class {kind}")

    def _fields(self) -> int:
        """Read the names of a struct's fields, all of one length, and return how many there are."""
        length, names = int.from_bytes(self._element()[1], "little" if self.order == "<" else "big"), self._element()[1]
        if not length or len(names) % length:
            raise ValueError("the names of a struct's fields are damaged")
        return len(names) // length
