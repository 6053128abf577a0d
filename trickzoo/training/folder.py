"""The output folder of a training run or of a study, which only one run at a time may write to."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from accelerate import Accelerator, PartialState
from filelock import FileLock, Timeout

from trickzoo import files
from trickzoo.errors import InUse, TrickzooError
from trickzoo.output_files import BEST, CURVES, LAST, LOG, METRICS, NETWORK, RESULT, SPLIT
from trickzoo.training import stopping

log = logging.getLogger("trickzoo")

LOCK, HOLDER = ".lock", ".holder"
FILES = (LAST, BEST, METRICS, LOG, CURVES, NETWORK, RESULT, SPLIT)
"""Files that a training run writes."""
PATIENCE = 15.0
"""Seconds to wait for a lock whose holder has died. Its decoding workers hold the lock too, and need some seconds to notice and to end."""


@contextmanager
def locked(folder: Path, state: Accelerator | PartialState) -> Iterator[None]:
    """Within the block, lock the folder against other runs. The processes of one run share the lock, and must all enter the block.

    Temporary files that a killed run left in the folder are removed first. The operating system releases the lock of a process that dies.

    Raises InUse if another run holds the folder, and NotWritten if the folder cannot be written; the other processes of the run raise
    StoppedByOtherProcess.
    """
    lock = FileLock(folder / LOCK)
    error: TrickzooError | None = None
    if state.is_main_process:
        try:
            _acquire(lock, folder)
            if lock.is_locked:
                _remove_leftovers(folder)
        except TrickzooError as found:
            error = found
    try:
        stopping.raise_in_all(error, state)
        yield
    finally:
        if lock.is_locked:
            (folder / HOLDER).unlink(missing_ok=True)
            lock.release()


def _acquire(lock: FileLock, folder: Path) -> None:
    holder = folder / HOLDER
    with files.writing(folder, remedy="name another --out"):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _wait_for_workers(lock, folder)
        except NotImplementedError:  # a file system without locks
            log.warning("%s is on a file system without locks: do not start a second run there", folder)
            return
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now():%Y-%m-%d %H:%M:%S}\n", encoding="utf-8")


def _wait_for_workers(lock: FileLock, folder: Path) -> None:
    """Acquire the lock of a run that has died, once its workers have ended. Raises InUse if the run is alive."""
    try:
        lock.acquire(timeout=PATIENCE if _has_died(folder / HOLDER) else 0)
    except Timeout:
        raise InUse(f"{folder} is in use by {_read(folder / HOLDER) or 'another run'}; wait for it, or name another --out") from None


def _read(holder: Path) -> str:
    try:
        return holder.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _has_died(holder: Path) -> bool:
    """Return whether the process that the file names ran on this machine and has ended."""
    import psutil

    found = re.match(r"process (\d+) on (\S+),", _read(holder))
    return found is not None and found[2] == socket.gethostname() and not psutil.pid_exists(int(found[1]))


def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of `files.atomically` that a killed run left. This run holds the lock, so no other run writes to them."""
    names = "|".join(map(re.escape, FILES))
    # the second form is that of older versions
    temporary = re.compile(rf"{re.escape(files.TEMPORARY)}[0-9a-f]{{16}}|\.({names})\.[0-9a-f]{{8}}")
    for path in folder.iterdir():
        if temporary.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)
