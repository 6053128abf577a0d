"""Reading every file of a set once, in threads: reading, hashing and decoding release Python's global lock."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from trickzoo.data import images
from trickzoo.errors import BadData

T = TypeVar("T")
U = TypeVar("U")

THREADS = min(8, os.cpu_count() or 1)
REPAIR = "repair it, or take it out of the split"
SKIP = "--skip-corrupt leaves out images that cannot be read"
AT_ONCE = 1024
"""How many calls are submitted at a time, so that a large set needs no more memory than a small one."""


def in_threads(function: Callable[[T], U], arguments: Iterable[T]) -> Iterator[U]:
    """Yield the function's value for each argument, in order. Raises the error of the first argument that fails."""
    arguments = iter(arguments)
    with ThreadPoolExecutor(THREADS) as pool:
        while some := list(islice(arguments, AT_ONCE)):
            yield from pool.map(function, some)


def each_image(look: Callable[[int], U], count: int) -> Iterator[U]:
    """Yield the value of `look` for 0 … count - 1, computed in threads.

    Raises its BadData for the first image that fails, with a remedy.
    """
    try:
        yield from in_threads(look, range(count))
    except BadData as error:
        raise BadData(f"{error}; {REPAIR}; {SKIP}") from None


def digests(root: Path, names: Iterable[str]) -> tuple[bytes, ...]:
    """Return the SHA-256 of each of these files below `root`. Raises BadData for a file that cannot be read."""
    return tuple(in_threads(lambda name: hashlib.sha256(images.content(root / name)).digest(), names))
