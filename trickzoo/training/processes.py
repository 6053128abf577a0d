"""The processes of a run: a single process, or the processes that `torchrun` or `accelerate launch` started."""

from __future__ import annotations

import ctypes
import os
import sys

from accelerate import PartialState

from trickzoo.environment import cores
from trickzoo.errors import BadOption
from trickzoo.training.device import Device, on_cpu

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Options of glibc's `mallopt`: the free memory at the end of the heap above which it is returned to the system, in bytes, and the number
of blocks that are allocated outside of the heap and returned as soon as they are freed."""


def default_workers() -> int:
    """Return the default number of worker processes: one for each core, shared among the processes on this machine, but at most 32."""
    return min(max(cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1), 32)


def processes(*, device: Device = "auto") -> PartialState:
    """Return the device and the rank of this process, and the number of processes.

    Raises BadOption if the device does not exist, RuntimeError if fewer processes found each other than the launcher started.
    """
    use_cpu = on_cpu(device)
    if use_cpu:
        keep_freed_memory()
    state = PartialState(cpu=use_cpu)
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes != started:
        raise RuntimeError(f"{started} processes were started, {state.num_processes} found each other")
    return state


def one_process(command: str, device: Device) -> PartialState:
    """Return what `processes` returns. Raises BadOption if `torchrun` or `accelerate launch` started several processes of a command."""
    state = processes(device=device)
    if state.num_processes > 1:
        raise BadOption(f"{command} runs in one process; start it without torchrun or accelerate launch")
    return state


def keep_freed_memory() -> None:
    """Let glibc's malloc keep freed memory for later allocations of this process, in place of returning it to the system.

    A network on a CPU frees its feature maps after each batch, and allocates as many for the next one. By default, malloc returns large
    blocks to the system, which must fill every page with zeros when it gives them out again. With a small network, that is a large part of
    the time of a training step. The process keeps its peak memory until it ends.

    Worker processes that are forked later inherit the setting. It does nothing with another C library, or if the user has set malloc's
    own environment variables, whose names begin with MALLOC_.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:  # musl has no such function
        set_option(M_MMAP_MAX, 0)
        set_option(M_TRIM_THRESHOLD, 2**31 - 1)


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
