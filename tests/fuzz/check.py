"""What must hold for each input: the parser returns or raises a TrickzooError, within ten seconds and two gigabytes."""

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
"""Of processor time, so that other programs on the machine change nothing."""
MAX_BYTES = 2 * 2**30
"""Of memory that an input may take beside what the process had before."""

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Target:
    """A parser of files from strangers.

    Attributes:
        inputs: files to give it.
        read: writes the input into a folder and reads it there, as the product would.
        whole: an input that is taken, so that it is known that the target reads at all.
        prepare: puts into an empty folder what the parser needs beside the input; called once.
    """

    name: str
    inputs: SearchStrategy[bytes]
    read: Callable[[bytes, Path], Any]
    whole: Callable[[], bytes]
    prepare: Callable[[Path], Any] = lambda folder: None


@dataclass(frozen=True)
class Outcome:
    """What became of an input: empty `failure` and `place` if all holds."""

    seconds: float
    bytes: int
    failure: str = ""
    place: str = ""
    details: str = ""
    refused: bool = False


class TooSlow(BaseException):
    """Raised in the middle of a parser that takes too long."""


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    """Raise TooSlow in the block when the process has used `MAX_SECONDS`; it reaches Python code only, not a loop in C."""

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
    """Bytes that the process has now (VmRSS) or had at most since `_forget_peak` (VmHWM); 0 where the system does not say."""
    try:
        found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        CLEAR.write_text("5")


def check(target: Target, content: bytes, folder: Path) -> Outcome:
    """Give a target an input in a folder that `prepare` was called for."""
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
    """The innermost line of trickzoo that an exception passed: what tells one failure from another."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if "/trickzoo/" in frame.filename and "/tests/" not in frame.filename
    ]
    return f"{frames[-1].filename.rpartition('/trickzoo/')[2]}:{frames[-1].lineno} {frames[-1].name}" if frames else "tests"
