"""Preparing batches in another thread, and moving them to a device."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

NUMBER = 2
"""How many items are made before they are needed."""


def ahead(items: Iterator[T], device: torch.device) -> Iterator[T]:
    """Yield the items, which another thread makes before they are needed, two at most. Raises what `items` raises, in its place.

    The first item is made in this thread, where worker processes should start. Operations of torch and decoders release Python's lock, so
    that both threads compute at the same time. The operations of the other thread use one core: if each of the two had a team of threads,
    the teams would wait for each other. On a GPU the items are made on a stream of their own, because a copy that waited on this thread's
    stream would wait for the whole step. There they must be tuples of tensors. The items must not draw from torch's global generators.
    """
    make = functools.partial(next, items, _END) if device.type != "cuda" else _OnOwnStream(items, device)
    first: Any = make()
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(1, "ahead") as thread:
        thread.submit(_use_one_core).result()
        torch.set_num_threads(threads)  # restores the number for this thread and for those that start later
        waiting = deque(thread.submit(make) for _ in range(NUMBER))
        while (item := _received(first)) is not _END:
            yield item
            first = waiting.popleft().result()
            waiting.append(thread.submit(make))


_END = object()


class _OnOwnStream:
    """Makes the next item on a stream of its own."""

    def __init__(self, items: Iterator[Any], device: torch.device) -> None:
        self.items, self.stream = items, torch.cuda.Stream(device)

    def __call__(self) -> Any:
        with torch.cuda.stream(self.stream):
            item: Any = next(self.items, _END)
            return item if item is _END else _Enqueued(item, self.stream.record_event())


@dataclass(frozen=True)
class _Enqueued:
    """Tensors that a stream of a GPU has not computed before the event."""

    tensors: tuple[Tensor, ...]
    ready: torch.cuda.Event


def _received(item: Any) -> Any:
    """Return an item for use on the current stream."""
    if not isinstance(item, _Enqueued):
        return item
    here = torch.cuda.current_stream()
    here.wait_event(item.ready)
    for tensor in item.tensors:
        tensor.record_stream(here)  # its memory is not given to the next item before this stream has used it
    return item.tensors


def _use_one_core() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # a thread of Python adopts torch's number of threads at its first call, and keeps it


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return the tensor on the device. It is copied to a GPU from pinned memory, during other work of both."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
