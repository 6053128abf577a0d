"""The output folder of a training or of a study, which one run at a time writes to."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psutil
from accelerate import Accelerator, PartialState
from filelock import FileLock, Timeout

from trickzoo.errors import InUse
from trickzoo.files import TEMPORARY, refusal
from trickzoo.training import checkpoint, stopping, tracking

log = logging.getLogger("trickzoo")

LOCK, HOLDER = ".lock", ".holder"
FILES = (checkpoint.LAST, checkpoint.BEST, tracking.METRICS, tracking.LOG, tracking.CURVES, "model.safetensors", "result.json")
"""That a training writes."""
PATIENCE = 15.0
"""Seconds that a lock is waited for whose holder has died: its decoding workers, which notice that within some seconds, hold it too."""


@contextmanager
def held(folder: Path, state: Accelerator | PartialState) -> Iterator[None]:
    """Within the block no other run has this folder; the processes of one run hold it together.

    What a killed run left half-written in the folder is removed first. The lock is the system's, so that of a dead run holds nobody up.
    Raises InUse, in every process, if another run has the folder, or if the folder cannot be written.
    """
    lock, error = FileLock(folder / LOCK), None
    if state.is_main_process:
        try:
            _acquire(lock, folder)
            if lock.is_locked:
                _remove_leftovers(folder)
        except InUse as found:
            error = found
    try:
        stopping.agree(error, state)
        yield
    finally:
        if lock.is_locked:
            (folder / HOLDER).unlink(missing_ok=True)
            lock.release()


def _acquire(lock: FileLock, folder: Path) -> None:
    holder = folder / HOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not _has_died(holder):
                raise
            lock.acquire(timeout=PATIENCE)
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now():%Y-%m-%d %H:%M:%S}\n", encoding="utf-8")
    except Timeout:
        raise InUse(f"{folder} is in use by {_read(holder) or 'another run'}; wait for it, or name another --out") from None
    except NotImplementedError:  # a file system without locks
        log.warning("%s is on a file system without locks: do not start a second run there", folder)
    except OSError as error:
        raise InUse(f"{folder} cannot be written ({refusal(folder, error)}); name another --out") from None


def _read(holder: Path) -> str:
    try:
        return holder.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _has_died(holder: Path) -> bool:
    """Whether the process that noted itself here was one of this machine and is no more."""
    found = re.match(r"process (\d+) on (\S+),", _read(holder))
    return found is not None and found[2] == socket.gethostname() and not psutil.pid_exists(int(found[1]))


def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of `files.atomically` that a killed run left. This run holds the folder, so nobody is writing them now."""
    names = "|".join(map(re.escape, FILES))
    temporary = re.compile(rf"{re.escape(TEMPORARY)}[0-9a-f]{{16}}|\.({names})\.[0-9a-f]{{8}}")  # the second form is of older versions
    for path in folder.iterdir():
        if temporary.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)
