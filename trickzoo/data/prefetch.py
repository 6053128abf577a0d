"""Preparing batches in another thread, and moving them to a device."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

NUMBER = 2
"""How many items are made before they are needed."""


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the items, which another thread makes before they are needed, two at most. Raises what `items` raises, in its place.

    The first item is made in this thread, where worker processes should start. Operations of torch and decoders release Python's lock, so
    that both threads compute at the same time. The operations of the other thread use one core: if each of the two had a team of threads,
    the teams would wait for each other. The items must not draw from torch's global generators.
    """
    first: Any = next(items, _END)
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(1, "ahead") as thread:
        thread.submit(_use_one_core).result()
        torch.set_num_threads(threads)  # the number of this thread, and of those that start later
        waiting = deque(thread.submit(next, items, _END) for _ in range(NUMBER))
        while first is not _END:
            yield first
            first = waiting.popleft().result()
            waiting.append(thread.submit(next, items, _END))


_END = object()


def _use_one_core() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # a thread of Python takes over the number at its first question or operation, and keeps it


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return the tensor on the device. It is copied to a GPU from pinned memory, during other work of both."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
