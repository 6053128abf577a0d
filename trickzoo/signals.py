"""The signals that ask a process to stop, and how a process ended."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))
"""The signals that ask a training run to write a checkpoint and to stop. Windows has no SIGHUP."""


@contextlib.contextmanager
def blocked_signals() -> Iterator[None]:
    """Within the block, signals wait. A process that is started in it inherits this, until it has decided what to do on a signal."""
    if not hasattr(signal, "pthread_sigmask"):
        yield  # Windows
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def how_it_ended(code: int) -> str:
    """Return how a process ended, from its exit code, which is the negative number of the signal that killed it: "by signal 9"."""
    if code >= 0:
        return f"with status {code}"
    killed = ", as when memory runs out" if -code == getattr(signal, "SIGKILL", 9) else ""
    return f"by signal {-code}{killed}"
