"""Stopping: signals that ask for it, and errors that all processes of a training must stop for together."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object

from trickzoo.errors import Elsewhere, TrickzooError

T = TypeVar("T")

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))
"""Those that ask a training to save and to stop; Windows has no SIGHUP."""


class Stopped(TrickzooError):
    """The training was asked to stop and has saved a checkpoint."""

    status = 130


class Interrupted(Stopped):
    """An evaluation was asked to stop."""


class _Note(list[int]):
    """A signal handler that notes the signal, and passes it on to the note of the block around it. A second SIGINT ends the process."""

    def __init__(self, outer: Any) -> None:
        self.outer = outer

    def __call__(self, number: int, frame: FrameType | None) -> None:
        again = number == signal.SIGINT and number in self
        self.append(number)
        if isinstance(self.outer, _Note):
            self.outer(number, frame)
        if again:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a third one ends what does not return to Python
            raise KeyboardInterrupt


@contextmanager
def signals() -> Iterator[Callable[[], bool]]:
    """Within the block SIGTERM, SIGINT and SIGHUP only set a flag, which the yielded function reads. Of nested blocks each has its own.

    A second SIGINT raises KeyboardInterrupt. A SIGHUP that is ignored, as under nohup, stays ignored. In a thread that is not the main one
    Python cannot handle signals; there the block changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    note = _Note(signal.getsignal(signal.SIGTERM))
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if number != getattr(signal, "SIGHUP", 0) or handler != signal.SIG_IGN}
    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: bool(note)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def asked() -> bool:
    """Whether a signal has come since the innermost block of `signals` began; False outside of any."""
    handler = signal.getsignal(signal.SIGTERM)
    return isinstance(handler, _Note) and bool(handler)


def agreed(wanted: bool, accelerator: Accelerator) -> bool:
    """Whether any process wants something: a signal reaches them in different steps, and none may wait for one that has left."""
    if accelerator.num_processes == 1:
        return wanted
    flag = torch.tensor(float(wanted), device=accelerator.device)
    return bool(accelerator.reduce(flag, "sum").item())


def everywhere(error: TrickzooError, state: Accelerator | PartialState) -> TrickzooError:
    """The error, for all processes to raise together: the first one tells it, the others are silent."""
    return error if state.is_main_process else Elsewhere(0, str(error), error.status)


def agree(error: TrickzooError | None, state: Accelerator | PartialState) -> None:
    """Raise in every process if one of them has an error: there the error itself, in the others `Elsewhere`. All processes must call it."""
    if state.num_processes == 1:
        if error is not None:
            raise error
        return
    found = gather_object([(str(error), error.status) if error is not None else None])
    for process, what in enumerate(found):
        if what is not None:
            if process == state.process_index and error is not None:
                raise error
            raise Elsewhere(process, *what)


def together(share: Iterable[T], state: Accelerator | PartialState) -> Iterator[T]:
    """The items of this process's share of an evaluation. If one process fails, or is asked to stop, all raise at the end of their shares.

    Without this the others would wait for its results. Raises Interrupted if a signal came within a block of `signals`.
    """
    error: TrickzooError | None = None
    items = iter(share)
    while not asked():
        try:
            item = next(items, _END)
        except TrickzooError as found:
            error = found
            break
        if item is _END:
            break
        yield item  # type: ignore[misc]
    else:
        error = Interrupted("the evaluation was asked to stop")
    agree(error, state)


_END = object()
