"""The check of each input: the parser must return or raise a TrickzooError, within ten seconds and two gigabytes."""

from __future__ import annotations

import contextlib
import re
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis.strategies import SearchStrategy

from trickzoo.errors import TrickzooError

MAX_SECONDS = 10.0
"""Limit of processor time, which does not depend on other programs on the machine."""
MAX_BYTES = 2 * 2**30
"""Limit of the memory that an input may take, in addition to the memory of the process before it."""

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Target:
    """A parser of untrusted files.

    Attributes:
        name: name of the target on the command line.
        inputs: strategy that generates the contents of the file.
        read: function that writes the content to a file in a folder, and reads it as the product does.
        whole: function that returns a valid content, which shows that the target reads at all.
        prepare: function that writes the other files that the parser needs to an empty folder; called once.
    """

    name: str
    inputs: SearchStrategy[bytes]
    read: Callable[[bytes, Path], Any]
    whole: Callable[[], bytes]
    prepare: Callable[[Path], Any] = lambda folder: None


@dataclass(frozen=True)
class Outcome:
    """Outcome of an input.

    Attributes:
        seconds: processor time.
        bytes: memory that the input took.
        failure: name of the exception, "TooSlow" or "TooLarge"; empty if the check passed.
        place: innermost line of trickzoo that the exception passed; empty if the check passed.
        details: traceback, or the message of a TrickzooError.
        refused: whether the parser raised a TrickzooError.
    """

    seconds: float
    bytes: int
    failure: str = ""
    place: str = ""
    details: str = ""
    refused: bool = False


class TooSlow(BaseException):
    """Exception that interrupts a parser after `MAX_SECONDS`."""


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    """Raise TooSlow in the block when the process has used `MAX_SECONDS`. This interrupts Python code, but not a loop in C."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _memory(field: str) -> int:
    """Return the memory of the process in bytes: now (VmRSS), or the peak since `_forget_peak` (VmHWM); 0 if it is unknown."""
    try:
        found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        CLEAR.write_text("5")


def check(target: Target, content: bytes, folder: Path) -> Outcome:
    """Give an input to a target, in a folder that `prepare` was called for, and return the outcome."""
    _forget_peak()
    before, start = _memory("VmRSS"), time.process_time()
    failure = place = details = ""
    refused = False
    try:
        with _alarm():
            target.read(content, folder)
    except TrickzooError as error:
        refused, details = True, str(error)
    except TooSlow as error:
        failure, place, details = "TooSlow", _place(error), traceback.format_exc()
    except (Exception, SystemExit) as error:
        failure, place, details = type(error).__name__, _place(error), traceback.format_exc()
    seconds, peak = time.process_time() - start, max(0, _memory("VmHWM") - before)
    if not failure and seconds > MAX_SECONDS:
        failure, place = "TooSlow", "somewhere"
    if not failure and peak > MAX_BYTES:
        failure, place = "TooLarge", "somewhere"
    return Outcome(seconds, peak, failure, place, details, refused)


def _place(error: BaseException) -> str:
    """Return the innermost line of trickzoo that an exception passed. It distinguishes failures of the same kind."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if "/trickzoo/" in frame.filename and "/tests/" not in frame.filename
    ]
    return f"{frames[-1].filename.rpartition('/trickzoo/')[2]}:{frames[-1].lineno} {frames[-1].name}" if frames else "tests"
