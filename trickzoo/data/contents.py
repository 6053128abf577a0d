"""Looking at every file of a set once: in threads, as reading, hashing and decoding leave Python's lock to others."""

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
AT_ONCE = 1024
"""Calls that are waiting at a time, so that a large set needs no more memory than a small one."""


def in_threads(function: Callable[[T], U], arguments: Iterable[T]) -> Iterator[U]:
    """The function's value for each argument, in their order. Raises what the first call that fails raises."""
    arguments = iter(arguments)
    with ThreadPoolExecutor(THREADS) as pool:
        while some := list(islice(arguments, AT_ONCE)):
            yield from pool.map(function, some)


def each_image(look: Callable[[int], U], count: int) -> Iterator[U]:
    """What `look` gives for 0 … count - 1, in threads. Raises BadData with the first image that it refuses, and what can be done."""
    try:
        yield from in_threads(look, range(count))
    except BadData as error:
        raise BadData(f"{error}; repair it, or take it out of the split") from None


def digests(root: Path, names: Iterable[str]) -> tuple[bytes, ...]:
    """SHA-256 of each of the files below `root`. Raises BadData for one that cannot be read."""
    return tuple(in_threads(lambda name: hashlib.sha256(images.content(root / name)).digest(), names))
