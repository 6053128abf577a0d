"""The processes of a run: a single process, or the processes that `torchrun` or `accelerate launch` started."""

from __future__ import annotations

import os
import sys

from accelerate import PartialState

from trickzoo.environment import cores
from trickzoo.training.device import Device, on_cpu


def default_workers() -> int:
    """Return the default number of worker processes: one for each core, shared among the processes on this machine, but at most 32."""
    return min(max(cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1), 32)


def processes(*, device: Device = "auto") -> PartialState:
    """Return the device and the rank of this process, and the number of processes.

    Raises BadOption if the device does not exist, RuntimeError if fewer processes found each other than the launcher started.
    """
    state = PartialState(cpu=on_cpu(device))
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes != started:
        raise RuntimeError(f"{started} processes were started, {state.num_processes} found each other")
    return state


def peak_memory() -> int | None:
    """Return the peak memory of this process in bytes, its current memory if the system does not record the peak, or None if neither."""
    try:
        import resource
    except ImportError:  # Windows
        try:
            import psutil
        except ImportError:  # on other systems psutil needs the missing module itself
            return None
        memory = psutil.Process().memory_info()
        return int(getattr(memory, "peak_wset", memory.rss))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts bytes, Linux kibibytes
