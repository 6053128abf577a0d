"""Decoded images that are kept on the disk: a folder with two arrays, and a file with their digests."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tokenize import TokenError

import msgspec
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from torch.utils.data import Dataset

from trickzoo.data.imageset import ReadImage
from trickzoo.data.workers import in_order, in_workers
from trickzoo.errors import BadData, BadOption
from trickzoo.files import refusal, write_atomically

log = logging.getLogger("trickzoo")

PIXELS, SIZES, SEALS = "pixels.npy", "sizes.npy", "digests.json"
CHUNK = 1 << 24
"""How many bytes of a file one thread hashes at a time."""


class Seal(msgspec.Struct, frozen=True):
    """The size, time and digest of a file when it was written. The file is hashed again only if `size` or `mtime_ns` has changed."""

    size: int
    mtime_ns: int
    sha256: str


def open_or_decode(
    data: Dataset[ReadImage], place: Path, workers: int, tell: Callable[[list[ReadImage]], None] = lambda batch: None
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the pixels of n samples, (n, 3, side, side), and the widths and heights of their files, (n, 2), from the folder `place`.

    If the folder does not exist, the samples are decoded into it. If a file in it is damaged, they are decoded again, and a warning says
    so. An intact folder is not written to, unless an older version wrote it without digests, which are then added. Two processes may
    call this at once: one decodes, and the other waits.

    Args:
        data: the samples to decode.
        place: the folder of the decoded images.
        workers: number of decoding processes; 0 decodes in this process.
        tell: called with the samples of each batch after they are decoded.

    Raises BadData with the path of an image that cannot be read, and BadOption if the folder cannot be written or the disk is full.
    """
    n = len(data)  # type: ignore[arg-type]
    if _fault(place, n):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(place.with_name(f".{place.name}.lock")):
                if fault := _fault(place, n):
                    if place.exists():
                        log.warning("%s is made again, because %s", place, fault)
                    _decode(data, place, workers, tell)
        except OSError as error:
            why = refusal(place, error)
            raise BadOption(f"{place.parent} cannot keep decoded images ({why}); name another folder with --cache") from None
    return np.load(place / PIXELS, mmap_mode="r"), np.load(place / SIZES)


def _fault(place: Path, n: int) -> str:
    """Return the reason why a folder does not contain n decoded images, or an empty string if it does."""
    try:
        pixels, sizes = (np.lib.format.open_memmap(place / name, mode="r") for name in (PIXELS, SIZES))
        if (pixels.dtype, pixels.ndim, pixels.shape[:2]) != (np.uint8, 4, (n, 3)) or (sizes.dtype, sizes.shape) != (np.int64, (n, 2)):
            return "it holds other arrays"
        if (sizes < 1).any():
            return f"{SIZES} is damaged"
        kept = msgspec.json.decode((place / SEALS).read_bytes(), type=dict[str, Seal]) if (place / SEALS).exists() else {}
        now = {name: _seal(place / name, kept.get(name)) for name in (PIXELS, SIZES)}
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, EOFError, RecursionError, TokenError) as error:  # numpy's reader raises these on damaged files
        return f"a file in it is damaged ({error})"
    for name, seal in kept.items():
        if name in now and now[name].sha256 != seal.sha256:
            return f"{name} is not as it was written"
    if now != kept:
        with contextlib.suppress(OSError):  # if the folder cannot be written, its files are hashed at each start
            write_atomically(place / SEALS, msgspec.json.encode(now))
    return ""


def _seal(path: Path, kept: Seal | None = None) -> Seal:
    """Return the current size, time and digest of a file. The file is hashed only if its size or time differs from `kept`."""
    stat = path.stat()
    if kept is not None and (kept.size, kept.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
        return kept
    return Seal(stat.st_size, stat.st_mtime_ns, _digest(path, stat.st_size))


def _digest(path: Path, size: int) -> str:
    """Return the SHA-256 over the SHA-256 of each chunk of a file. Several threads hash chunks at once."""

    def of_chunk(start: int) -> bytes:
        with path.open("rb") as file:
            file.seek(start)
            return hashlib.sha256(file.read(CHUNK)).digest()

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        return hashlib.sha256(b"".join(pool.map(of_chunk, range(0, size, CHUNK)))).hexdigest()


def _decode(data: Dataset[ReadImage], place: Path, workers: int, tell: Callable[[list[ReadImage]], None]) -> None:
    """Write the arrays to a temporary folder, and rename it once all files are complete and on the disk. The caller holds the lock."""
    scratch = place.with_name(f".{place.name}.unfinished")
    shutil.rmtree(scratch, ignore_errors=True)  # left by a process that was killed
    scratch.mkdir()
    try:
        n = len(data)  # type: ignore[arg-type]
        pixels: np.memmap[tuple[int, ...], np.dtype[np.uint8]] | None = None
        sizes = np.empty((n, 2), np.int64)
        for batch in in_workers(data, in_order(n, 64), workers):
            for sample in batch:
                if sample.pixels is None:
                    raise BadData(f"{sample.error}; remove it, or replace it")
                if pixels is None:
                    pixels = _room(scratch / PIXELS, (n, *sample.pixels.shape))
                pixels[sample.index] = sample.pixels.numpy()
                sizes[sample.index] = sample.size
            tell(batch)
        assert pixels is not None
        pixels.flush()
        np.save(scratch / SIZES, sizes)
        for name in (PIXELS, SIZES):
            _sync(scratch / name)
        write_atomically(scratch / SEALS, msgspec.json.encode({name: _seal(scratch / name) for name in (PIXELS, SIZES)}))
        if place.exists():
            shutil.rmtree(place)
        os.replace(scratch, place)
        with contextlib.suppress(OSError):  # not every system can sync a folder
            _sync(place.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _room(path: Path, shape: tuple[int, ...]) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
    """Create a memory-mapped array of uint8.

    Raises OSError if the disk has too little space: otherwise a later write to the memory map would kill the process.
    """
    pixels: np.memmap[tuple[int, ...], np.dtype[np.uint8]] = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return pixels


def _sync(path: Path) -> None:
    """Flush a file or a folder to the disk (fsync)."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
