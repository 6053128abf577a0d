"""Turns of a training on a CPU and of the worker processes that decode its images.

A step of a network runs on all cores, and each of its threads waits for the slowest: a worker that takes one of the cores delays all of
them. Workers therefore decode only while the training waits for samples.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Iterator

PATIENCE = 1.0
"""How many seconds a process waits for its turn before it considers that another one was killed."""


class Turns:
    """A lock that the training holds during a step, and that a worker takes for an instant before it decodes an image."""

    _of_this_worker: Turns | None = None

    def __init__(self) -> None:
        self._lock = multiprocessing.Lock()

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Within the block, the workers finish the images that they are decoding, and begin no others."""
        held = self._lock.acquire(timeout=PATIENCE)  # not if a worker was killed in the instant in which it held the lock
        try:
            yield
        finally:
            if held:
                self._lock.release()

    def join(self) -> None:
        """Let `wait_for_turn` wait for the training, from now on and in this process, which is one of its workers."""
        Turns._of_this_worker = self

    def wait(self) -> None:
        """Wait until the training waits for samples, or until its process has ended."""
        training = multiprocessing.parent_process()
        while not self._lock.acquire(timeout=PATIENCE):
            if training is None or not training.is_alive():
                return
        self._lock.release()


def wait_for_turn() -> None:
    """Wait for the training if this process is a worker that takes turns with one. Otherwise return at once."""
    if Turns._of_this_worker is not None:
        Turns._of_this_worker.wait()
