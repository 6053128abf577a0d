"""Reads MXNet's files of named arrays (`.params`), without MXNet.

The format, all little-endian: the magic number 0x112 and a reserved number; the number of arrays, and each array; the number of names, and
each name after its length. Numbers of these are unsigned, of 64 bits. An array is the magic number of its version, its storage type (from
version 2), the number of its dimensions and the dimensions, the device that it was on, the code of its data type, and its content.
"""

from __future__ import annotations

import os
import struct
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from trickzoo.errors import BadCheckpoint
from trickzoo.files import open_regular
from trickzoo.weights.tensors import MOST_TENSORS

LIST_MAGIC = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
"""The versions of an array: V1 has dimensions of 64 bits, V2 has a storage type, and V3 can have no dimension, which is then a scalar. An
array older than V1 begins with the number of its dimensions, which have 32 bits."""
DENSE = 0
TYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8", 7: "?"}
MOST_DIMENSIONS = 32


def read_params(path: Path) -> dict[str, Tensor]:
    """Return the arrays of a `.params` file by name, without the prefixes "arg:" and "aux:" of exported networks.

    Raises BadCheckpoint if the file cannot be read, is damaged, or has arrays that are sparse, nameless or of an unknown type.
    """
    try:
        with open_regular(path) as file:
            return _read(file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        reason = "it does not exist" if isinstance(error, FileNotFoundError) else error.strerror or error
        raise BadCheckpoint(f"{path} cannot be read ({reason})") from None
    except (ValueError, struct.error) as error:
        raise BadCheckpoint(
            f"{path} is not a whole file of MXNet's arrays ({error}); copy it again, or write it with save_parameters"
        ) from None


def _read(file: BinaryIO, size: int) -> dict[str, Tensor]:
    reader = _Reader(file, size)
    magic, _, count = reader.numbers("<QQQ")
    if magic != LIST_MAGIC:
        raise ValueError(f"it begins with {magic:#x}, not {LIST_MAGIC:#x}")
    if count > MOST_TENSORS:
        raise ValueError(f"it has {count:,} arrays, which no network of the zoo has")
    arrays = [_array(reader, number) for number in range(count)]
    (names,) = reader.numbers("<Q")
    if names != count:
        raise ValueError(f"it has {count:,} arrays and {names:,} names")
    found: dict[str, Tensor] = {}
    for array in arrays:
        (length,) = reader.numbers("<Q")
        name = reader.bytes(length).decode("utf-8")
        found[name.removeprefix("arg:").removeprefix("aux:")] = array
    if len(found) != count:
        raise ValueError("two arrays have one name")
    if reader.left:
        raise ValueError(f"{reader.left:,} bytes follow the last name")
    return found


class _Reader:
    """Reads parts of a file, each after it has been checked that the file has so many bytes left."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.left = file, size

    def bytes(self, count: int) -> bytes:
        if count > self.left:
            raise ValueError("it ends too early")
        self.left -= count
        return self.file.read(count)

    def numbers(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self.bytes(struct.calcsize(form)))


def _array(reader: _Reader, number: int) -> Tensor:
    """Read one array, the `number`th from 0."""
    (version,) = reader.numbers("<I")
    if version in (V2, V3) and reader.numbers("<i")[0] != DENSE:
        raise ValueError(f"array {number} is sparse")
    dimensions = reader.numbers("<i")[0] if version in (V1, V2, V3) else version
    if not (0 if version == V3 else 1) <= dimensions <= MOST_DIMENSIONS:
        raise ValueError(f"array {number} has {dimensions:,} dimensions")
    shape = reader.numbers(f"<{dimensions}{'q' if version in (V1, V2, V3) else 'I'}")
    _, _, kind = reader.numbers("<iii")  # the kind and the number of the device, which do not matter, and the data type
    if kind not in TYPES:
        raise ValueError(f"array {number} has the data type {kind}, which is none of MXNet's plain ones")
    if any(side < 0 for side in shape):
        raise ValueError(f"array {number} has the shape {shape}")
    content = reader.bytes(prod(shape) * np.dtype(TYPES[kind]).itemsize)
    return torch.from_numpy(np.frombuffer(content, TYPES[kind]).reshape(shape).copy())
