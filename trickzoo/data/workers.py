"""Making samples in worker processes."""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import logging
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import threading
import warnings
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trickzoo.environment import cores
from trickzoo.errors import WorkerLost
from trickzoo.signals import SIGNALS, blocked_signals, how_it_ended

T = TypeVar("T")
R = TypeVar("R")
Package = tuple[bytes, list[int], Tensor]
PER_CORE = 4
"""The largest number of worker processes for each core. Reading from a slow disk or network can use more than one."""
NICE = 10
"""By how much the priority of workers that share the cores with a training run is lowered (`os.nice`)."""
log = logging.getLogger("trickzoo")
ALIGNMENT = 64
"""Arrays start at multiples of this many bytes, as numpy and torch expect."""


def in_workers(
    samples: Dataset[T], batches: Iterable[list[Any]], workers: int, *, trains_on: torch.device | None = None
) -> Iterator[list[T]]:
    """Yield the samples of each batch of keys, which worker processes make.

    `batches` is iterated in this process, shortly before the samples are needed. A set with `__getitems__` makes the samples of a batch
    together, as in torch. With 0 `workers`, this process makes the samples. At most `PER_CORE` processes for each core are started, and a
    warning says so if more were asked for.

    `trains_on` is the device of a network that this process trains on the samples. If it is the CPU, the workers have a lower priority than
    this process: whenever a worker takes the core of one of the network's threads, all other threads wait for that one.

    Raises WorkerLost if a worker process dies, and what `batches` or a sample raises.
    """
    if not workers:
        return (_made(samples, batch) for batch in batches)
    nice = NICE if trains_on is not None and trains_on.type == "cpu" else 0
    made = _by_workers(samples, batches, _limited(workers), nice)
    _open.add(made)
    return made


def computed(
    samples: Dataset[Any], batches: Iterable[list[Any]], workers: int, function: Callable[[list[Any]], list[R]], *, by_workers: bool
) -> Iterator[list[R]]:
    """Yield what a function returns for the samples of each batch of keys.

    Args:
        samples: makes a sample from a key.
        batches: the keys of each batch.
        workers: number of worker processes, as for `in_workers`.
        function: takes the samples of a batch, and returns as many results.
        by_workers: whether the workers call the function on their samples, each of them on one thread. Otherwise this process does.

    Raises WorkerLost if a worker process dies, and what `batches` or the function raises.
    """
    if by_workers:
        return in_workers(_Computed(samples, function), batches, workers)
    return map(function, in_workers(samples, batches, workers))


@dataclass
class _Computed(Dataset[R]):
    """The results of a function by the keys of its samples."""

    samples: Dataset[Any]
    function: Callable[[list[Any]], list[R]]

    def __getitems__(self, keys: list[Any]) -> list[R]:
        return self.function(_made(self.samples, keys))


@functools.cache  # warns once for each number, although a training run starts workers several times
def _limited(workers: int) -> int:
    most = PER_CORE * cores()
    if workers > most:
        log.warning("%d workers are limited to %d, %d for each core", workers, most, PER_CORE)
    return min(workers, most)


def in_order(n: int, batch_size: int) -> Iterator[list[int]]:
    """Yield the keys 0 … n - 1 in batches."""
    return (list(range(start, min(start + batch_size, n))) for start in range(0, n, batch_size))


_open: weakref.WeakSet[Generator[Any, None, None]] = weakref.WeakSet()


@atexit.register
def _close() -> None:
    """End the workers of unfinished iterators at exit. Otherwise the process would wait for them, because they ignore its SIGTERM."""
    for made in list(_open):
        made.close()


def _by_workers(samples: Dataset[T], batches: Iterable[list[Any]], workers: int, nice: int) -> Generator[list[T], None, None]:
    errors: list[Exception] = []
    others = multiprocessing.active_children()
    with _without_handler(), blocked_signals(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")  # `_limited` itself warns of too many workers
        loader: DataLoader[Any] = DataLoader(
            _Packed(samples),
            batch_sampler=_until_error(batches, errors),  # type: ignore[arg-type] # any iterable will do
            num_workers=workers,
            collate_fn=_as_it_is,  # type: ignore[arg-type] # what __getitems__ gives, which need not be a list
            worker_init_fn=functools.partial(_begin, nice),
            generator=torch.Generator(),  # a loader draws a seed when it starts, which must not come from the generator that mixup uses
        )
        packages: Any = iter(loader)
    mine = [child for child in multiprocessing.active_children() if child not in others]
    try:
        yield from map(_unpack, packages)
        if errors:
            raise errors[0]
    except (RuntimeError, EOFError, ConnectionError) as error:
        # the last two come from a worker that dies while it sends samples, which takes seconds if it has much memory to give back
        patience = 1 if isinstance(error, RuntimeError) else 30
        ended = multiprocessing.connection.wait([child.sentinel for child in mine], timeout=patience)
        for child in mine:
            if child.sentinel in ended:
                child.join()  # a process that ends closes its sentinel shortly before it has an exit code
        lost = [child.exitcode for child in mine if child.exitcode]  # the exit code of a worker that ended normally is 0
        if not lost:
            raise
        raise WorkerLost(
            f"a decoding worker ended {how_it_ended(lost[0])}; run it again, with fewer --workers if memory is short"
        ) from None
    finally:
        packages._shutdown_workers()  # torch has no public function for this, and after an error the traceback keeps the loader alive


def _until_error(batches: Iterable[list[Any]], errors: list[Exception]) -> Iterator[Package]:
    """Yield the packed batches of keys.

    An error is appended to `errors` and ends the batches: if it were raised here, workers would remain.
    """
    try:
        yield from map(_pack, batches)
    except Exception as error:
        errors.append(error)


@contextlib.contextmanager
def _without_handler() -> Iterator[None]:
    """Within the block, a loader that starts does not install torch's handler of SIGCHLD.

    That handler raises an error in whatever code the process runs when a worker dies. Without it, the error is raised only where the
    process waits for a batch.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        yield  # torch does not install the handler in this case either
        return
    before = signal.getsignal(signal.SIGCHLD)
    yield
    signal.signal(signal.SIGCHLD, before if before is not None else signal.SIG_DFL)


class _Packed(Dataset[Any]):
    """The samples of packed batches of keys, packed too: each tensor that is sent takes an open file, and most systems allow 1,024."""

    def __init__(self, samples: Dataset[Any]) -> None:
        self.samples = samples

    def __getitems__(self, keys: Package) -> Package:
        return _pack(_made(self.samples, _unpack(keys)))


def _made(samples: Dataset[T], keys: list[Any]) -> list[T]:
    together: Callable[[list[Any]], list[T]] | None = getattr(samples, "__getitems__", None)
    return [samples[key] for key in keys] if together is None else together(keys)


def _as_it_is(package: Package) -> Package:
    return package


def _begin(nice: int, worker: int) -> None:
    """Lower the priority of this worker process, and ignore SIGTERM, SIGINT and SIGHUP.

    On a signal to the process group, the parent finishes its step with these workers, saves, and ends them.
    """
    if nice and hasattr(os, "nice"):  # Windows has other priorities
        os.nice(nice)
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        return (torch.from_numpy, (value.numpy(),)) if isinstance(value, Tensor) else NotImplemented


def _pack(values: list[Any]) -> Package:
    """Return a pickle without the contents of its arrays, the lengths of these in bytes, and the contents in one tensor."""
    head, parts = io.BytesIO(), []
    _Pickler(head, protocol=5, buffer_callback=lambda part: parts.append(part.raw())).dump(values)
    body = bytearray()
    for part in parts:
        body += part
        body += bytes(-len(part) % ALIGNMENT)
    return head.getvalue(), [len(part) for part in parts], torch.from_numpy(np.frombuffer(body, np.uint8))


def _unpack(package: Package) -> list[Any]:
    head, lengths, body = package
    rest, parts = body.numpy(), []
    for length in lengths:
        parts.append(rest[:length])
        rest = rest[length + -length % ALIGNMENT :]
    found: list[Any] = pickle.loads(head, buffers=parts)
    return found
