"""Reads files of `torch.save` without running code from them, in seconds at most and in memory of the order of their size.

Checkpoints of trickzoo contain the SHA-256 of their bytes (`seal_zip`), so that damage is found before the file is unpickled.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import pickle
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from trickzoo.errors import BadCheckpoint
from trickzoo.files import open_regular

MOST_OPCODES = 600_000
"""Limit of what is read. The deepest network of the zoo has about a thousand tensors, and a pickle has about thirty opcodes for each."""


def read_pickle(path: Path) -> Any:
    """Return the content of a file of `torch.save`, read with `weights_only=True`. Raises BadCheckpoint if it is not such a file."""
    try:
        with open_regular(path) as file:
            return unpickle(path, file)
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> BadCheckpoint:
    """Return the error for a file that cannot be opened or read."""
    if isinstance(error, FileNotFoundError):
        return BadCheckpoint(f"{path} does not exist")
    return BadCheckpoint(f"{path} cannot be read ({error.strerror or error})")


def unpickle(path: Path, file: BinaryIO) -> Any:
    """Return the content of an open file of `torch.save`. Raises BadCheckpoint if it is not such a file, or is damaged."""
    if seal_is_whole(file) is False:
        raise BadCheckpoint(f"{path} is damaged (its content does not have the SHA-256 that was written with it)")
    file.seek(0)
    head = file.read(4)
    file.seek(0)
    try:
        _check_pickle(path, file, zipped=head == b"PK\x03\x04")
        file.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about old formats, which are either refused below or read correctly
            # timm's trainer stores its command line options, which are plain values, in a Namespace beside the weights.
            with torch.serialization.safe_globals([argparse.Namespace]):
                return torch.load(file, map_location="cpu", weights_only=True)
    except BadCheckpoint:
        raise
    except pickle.UnpicklingError as error:
        reference = re.search(r"(?:GLOBAL|Unsupported class|Unsupported global:?)\s+(?:GLOBAL\s+)?`?([\w.]+)", str(error))
        if reference is None and not _is_torch(head):
            raise _no_checkpoint(path, file) from None
        what = f"it refers to {reference[1]}" if reference else "it holds more than tensors"
        raise BadCheckpoint(
            f"{path} is a pickle that trickzoo does not load: {what}. "
            "Save its state dict alone, as safetensors, with the program it comes from"
        ) from None
    except OSError:
        raise
    except Exception as error:  # the reader raises any exception for damaged files
        if head and not _is_torch(head):
            raise _no_checkpoint(path, file) from None
        raise BadCheckpoint(f"{path} is not a PyTorch checkpoint ({sentence(error)})") from None


def _is_torch(head: bytes) -> bool:
    return head[:1] == b"\x80" or head[:2] == b"PK"


def sentence(error: BaseException) -> str:
    """Return the first sentence of an error's message, without the library's advice. An empty message means that the file is truncated."""
    return re.split(r"(?<=\S)\.\s|\n", str(error).rstrip("."))[0] or "it ends too early"


def _no_checkpoint(path: Path, file: BinaryIO) -> BadCheckpoint:
    what = hint(file)
    return BadCheckpoint(f"{path} is not a PyTorch checkpoint (neither a zip archive nor a pickle){'; ' + what if what else ''}")


def hint(file: BinaryIO) -> str:
    """Return what kind of file this is although its suffix says otherwise, and what to do; empty if the kind is unknown."""
    file.seek(0)
    head = file.read(512)
    if _is_torch(head):
        return "it is a PyTorch file; rename it to .pth"
    head = head.lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of git-lfs; `git lfs pull` fetches the file itself"
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page that was saved in place of the file; download the file itself"
    return ""


def _check_pickle(path: Path, file: BinaryIO, *, zipped: bool) -> None:
    """Raise BadCheckpoint for an archive that unpacks to more bytes than it has, or a pickle of too many parts.

    Nothing is unpacked before these checks.
    """
    if not zipped:
        opcodes = 0
        for _ in range(4):  # magic number, protocol, machine, content
            opcodes = _count(path, file, opcodes)
        return
    with zipfile.ZipFile(file) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > os.fstat(file.fileno()).st_size:
            raise BadCheckpoint(f"{path} is not a PyTorch checkpoint (it unpacks to more bytes than it has)")
        for entry in archive.infolist():
            if entry.filename.endswith("/data.pkl"):
                with archive.open(entry) as inner:
                    _count(path, inner, 0)  # type: ignore[arg-type]


def _count(path: Path, file: BinaryIO, opcodes: int) -> int:
    """Return `opcodes` plus the number of opcodes of the next pickle in the file. Raises BadCheckpoint beyond MOST_OPCODES."""
    with contextlib.suppress(StopIteration, ValueError):  # torch reports a truncated pickle, and a file that is not a pickle
        parts = pickletools.genops(file)
        while opcodes <= MOST_OPCODES:
            next(parts)
            opcodes += 1
    if opcodes > MOST_OPCODES:
        raise BadCheckpoint(f"{path} is a pickle of more than {MOST_OPCODES:,} parts; no network of the zoo has so many")
    return opcodes


_SEAL = b"trickzoo sha256 "
_SEAL_LENGTH = len(_SEAL) + 64


def seal_zip(archive: bytes) -> bytes:
    """Return a zip archive with its SHA-256 added as the archive comment, which readers ignore. The archive must have no comment yet."""
    assert archive[-22:-18] == b"PK\x05\x06" and archive[-2:] == b"\0\0", "the archive has a comment"
    return archive[:-2] + _SEAL_LENGTH.to_bytes(2, "little") + _SEAL + hashlib.sha256(archive).hexdigest().encode()


def seal_is_whole(file: BinaryIO) -> bool | None:
    """Return whether an open zip archive still has the SHA-256 that `seal_zip` added to it; None if it has no such comment.

    Raises OSError if the file cannot be read.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 22 - _SEAL_LENGTH))
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    seal = tail[end + 22 :]
    if end < 0 or tail[end + 20 : end + 22] != _SEAL_LENGTH.to_bytes(2, "little") or not seal.startswith(_SEAL[: len(seal)]):
        return None
    file.seek(0)
    value, left = hashlib.sha256(), size - len(seal) - 2
    while left and (chunk := file.read(min(left, 1 << 20))):
        value.update(chunk)
        left -= len(chunk)
    value.update(b"\0\0")  # the comment's length, which was 0 when the digest was taken
    return seal == _SEAL + value.hexdigest().encode()
