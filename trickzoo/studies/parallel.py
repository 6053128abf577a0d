"""Running several training runs of a study in parallel, each in a process of its own."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

import torch

from trickzoo.environment import cores
from trickzoo.errors import TrickzooError, WorkerLost, from_process
from trickzoo.signals import SIGNALS, blocked_signals, how_it_ended
from trickzoo.training import stopping

if TYPE_CHECKING:
    from trickzoo.training.progress import Progress

log = logging.getLogger("trickzoo")

PATIENCE = 60.0
"""Seconds that a process has to end after it was asked to."""


Train = Callable[["Callable[[Progress], None]"], str]
"""Starts or resumes a training run, calls the function with its progress, and returns its result in a few words."""
Reopen = Callable[[], Sequence[Train]]
"""Returns all training runs of a study. It is called in each process, and therefore pickled."""


def train_in_parallel(titles: Sequence[str], left: Sequence[int], reopen: Reopen, jobs: int, tell: Callable[[str], None]) -> None:
    """Run training runs, `jobs` of them at once.

    If one of them fails, or a signal arrives, the others save a checkpoint and stop.

    Args:
        titles: the titles of all training runs of the study.
        left: the indices of those to run.
        reopen: returns all training runs of the study.
        jobs: number of processes. They share the cores that this process may use, unless OMP_NUM_THREADS is set.
        tell: called with a line of text when a training run starts, and when it ends.

    Raises the error of a training run, whose message begins with its title, WorkerLost if a process dies, and Stopped if SIGTERM, SIGINT or
    SIGHUP arrived.
    """
    with stopping.handle_signals() as asked:
        _ParallelTrainings(titles, left, tell, asked).run(reopen, jobs)


class _ParallelTrainings:
    """Trainings that several processes take from a queue. `error` is the first error, after which no training starts."""

    def __init__(self, titles: Sequence[str], left: Sequence[int], tell: Callable[[str], None], asked: Callable[[], bool]) -> None:
        self.titles, self.left, self.tell, self.asked = titles, deque(left), tell, asked
        self.finished = len(titles) - len(left)
        self.error: TrickzooError | None = None

    def run(self, reopen: Reopen, jobs: int) -> None:
        """Run the training runs that are left."""
        threads = None if "OMP_NUM_THREADS" in os.environ else max(1, cores() // jobs)
        workers: list[_Worker] = []
        try:
            for _ in range(min(jobs, len(self.left))):
                workers.append(_Worker(reopen, threads))
            while busy := [worker for worker in workers if not worker.ended]:
                heard = wait([worker.connection for worker in busy], timeout=0.5)
                for worker in busy:
                    if worker.connection in heard:
                        self._hear(worker)
                    if not worker.ended and self._stops:
                        worker.stop()
        except KeyboardInterrupt:
            for worker in workers:
                worker.process.kill()
            raise
        finally:
            for worker in workers:
                worker.end()
        if self.error is not None:
            raise self.error
        if self.finished < len(self.titles):
            raise stopping.Stopped(f"stopped after {self.finished} of {len(self.titles)} training runs; the same command resumes it")

    @property
    def _stops(self) -> bool:
        return self.error is not None or self.asked()

    def _hear(self, worker: _Worker) -> None:
        """Receive a message of a process, and give it the next training if it has none."""
        kind, *content = worker.receive()
        if kind == "log":
            log.log(*content)
        elif kind == "lost":
            if not self._stops or worker.process.exitcode:
                self.error = self.error or WorkerLost(f"{self._title(worker)}: its process ended {content[0]}; run the same command again")
        elif kind == "failed":
            message, status, stopped = content
            if not (stopped and self._stops):
                self.error = self.error or from_process(f"{self._title(worker)}: {message}", status)
            worker.give(None)
        else:
            if kind == "done":
                self.finished += 1
                self.tell(f"{self._title(worker)}: {content[0]}")
            worker.give(None if self._stops or not self.left else self.left.popleft())
            if worker.index is not None:
                self.tell(f"{self._title(worker)}: started")

    def _title(self, worker: _Worker) -> str:
        return "the study" if worker.index is None else self.titles[worker.index]


class _Worker:
    """A process that trains, and the training that it has."""

    def __init__(self, reopen: Reopen, threads: int | None) -> None:
        self.index: int | None = None
        self.ended = False
        spawn = multiprocessing.get_context("spawn")  # a forked process could use neither a GPU nor several threads
        self.connection, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_work, args=(theirs, reopen, threads))
        with blocked_signals():
            self.process.start()
        theirs.close()

    def receive(self) -> tuple[Any, ...]:
        """Return the next message: ("lost", how) if the process has ended."""
        try:
            message: tuple[Any, ...] = self.connection.recv()
            return message
        except (EOFError, OSError):
            self.ended = True
            self.process.join(PATIENCE)
            return "lost", "in an unknown way" if self.process.exitcode is None else how_it_ended(self.process.exitcode)

    def give(self, index: int | None) -> None:
        """Give the process a training run, or let it end."""
        self.index, self.ended = index, index is None
        with contextlib.suppress(OSError):  # it has ended; `receive` notices
            self.connection.send(index)

    def stop(self) -> None:
        """Ask the process to save a checkpoint and to end."""
        self.process.terminate()

    def end(self) -> None:
        """Wait for the process, and end it if it does not end by itself."""
        self.connection.close()
        if not self.ended:
            self.process.terminate()
        self.process.join(PATIENCE)
        self.process.kill()
        self.process.join()


# ---------------------------------------------------------------------------------------------------------------------
# in the process


def _work(connection: Connection, reopen: Reopen, threads: int | None) -> None:
    """Run the training runs whose numbers come over the connection, until None comes or the other end is closed."""
    with contextlib.suppress(KeyboardInterrupt, EOFError, ConnectionError), stopping.handle_signals() as asked:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        threading.Thread(target=_follow, daemon=True).start()
        if threads is not None:
            torch.set_num_threads(threads)
        tell = _Teller(connection)
        log.addHandler(tell)
        try:
            log.setLevel(logging.ERROR)  # the process that started this one has written the same warnings about the images
            trains = reopen()
            log.setLevel(logging.NOTSET)
            tell("ready")
            while not asked() and (index := connection.recv()) is not None:
                tell("done", trains[index](lambda progress: None))
        except TrickzooError as error:
            tell("failed", str(error), error.status, isinstance(error, stopping.Stopped))
            connection.recv()


def _follow() -> None:
    """Stop this process, which then saves a checkpoint, when the process that started it has died."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


class _Teller(logging.Handler):
    """Sends messages, and those of the log, over a connection, from any thread."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(logging.WARNING)
        self.connection = connection

    def __call__(self, *message: Any) -> None:
        assert self.lock is not None
        with self.lock:
            self.connection.send(message)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a message of the log."""
        self("log", record.levelno, record.getMessage())
