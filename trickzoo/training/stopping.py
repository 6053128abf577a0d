"""Stopping a training run: the signals that request it, and errors in one process that must stop all processes of the training."""

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

from trickzoo.errors import StoppedByOtherProcess, TrickzooError
from trickzoo.signals import SIGNALS

T = TypeVar("T")


class Stopped(TrickzooError):
    """The training received a signal to stop, and has written a checkpoint."""

    status = 130


class Interrupted(Stopped):
    """An evaluation received a signal to stop."""


class _Recorder(list[int]):
    """A signal handler that records the numbers of the signals that it receives.

    It passes each signal on to the recorder of the enclosing block. A second SIGINT raises KeyboardInterrupt.
    """

    def __init__(self, outer: Any) -> None:
        self.outer = outer

    def __call__(self, number: int, frame: FrameType | None) -> None:
        again = number == signal.SIGINT and number in self
        self.append(number)
        if isinstance(self.outer, _Recorder):
            self.outer(number, frame)
        if again:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a third SIGINT ends the process even in code that does not return to Python
            raise KeyboardInterrupt


@contextmanager
def handle_signals() -> Iterator[Callable[[], bool]]:
    """Within the block, SIGTERM, SIGINT and SIGHUP only set a flag. Yield a function that returns the flag.

    Nested blocks have a flag each. A second SIGINT raises KeyboardInterrupt. An ignored SIGHUP, as under nohup, stays ignored. Python
    handles signals in the main thread only, so in any other thread the block changes nothing and the flag is always False.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    recorder = _Recorder(signal.getsignal(signal.SIGTERM))
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if number != getattr(signal, "SIGHUP", 0) or handler != signal.SIG_IGN}
    for number in before:
        signal.signal(number, recorder)
    try:
        yield lambda: bool(recorder)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_requested() -> bool:
    """Return whether a signal has arrived since the innermost block of `handle_signals` began; False outside of such a block."""
    handler = signal.getsignal(signal.SIGTERM)
    return isinstance(handler, _Recorder) and bool(handler)


def any_process(condition: bool, accelerator: Accelerator) -> bool:
    """Return whether the condition holds in at least one process. All processes must call this together.

    A signal reaches the processes in different steps. They must leave in the same step, because a process that remained would wait forever.
    """
    if accelerator.num_processes == 1:
        return condition
    flag = torch.tensor(float(condition), device=accelerator.device)
    return bool(accelerator.reduce(flag, "sum").item())


def for_this_process(error: TrickzooError, state: Accelerator | PartialState) -> TrickzooError:
    """Return what this process raises for an error that all processes have: the error in the main process, StoppedByOtherProcess elsewhere.

    The command line therefore prints the message once.
    """
    return error if state.is_main_process else StoppedByOtherProcess(0, str(error), error.status)


def raise_in_all(error: TrickzooError | None, state: Accelerator | PartialState) -> None:
    """Raise in every process if at least one process has an error. All processes must call this together.

    The first process with an error raises that error, and the others raise StoppedByOtherProcess.
    """
    if state.num_processes == 1:
        if error is not None:
            raise error
        return
    found = gather_object([(str(error), error.status) if error is not None else None])
    for process, message_and_status in enumerate(found):
        if message_and_status is not None:
            if process == state.process_index and error is not None:
                raise error
            raise StoppedByOtherProcess(process, *message_and_status)


def stoppable(share: Iterable[T], state: Accelerator | PartialState) -> Iterator[T]:
    """Yield the items of this process's share of an evaluation, and stop all processes together.

    A process leaves its share at a TrickzooError or at a signal. Every process then raises at the end of its own share: the failed process
    raises its error, and the others raise StoppedByOtherProcess. Otherwise the others would wait for its results forever. The error is
    Interrupted if a signal arrived within a block of `handle_signals`.
    """
    error: TrickzooError | None = None
    items = iter(share)
    while not stop_requested():
        try:
            item = next(items, _END)
        except TrickzooError as found:
            error = found
            break
        if item is _END:
            break
        yield item  # type: ignore[misc]
    else:
        error = Interrupted("the evaluation received a signal to stop")
    raise_in_all(error, state)


_END = object()
