"""The processes of a run: one, or those that `torchrun` or `accelerate launch` started."""

from __future__ import annotations

import os
import sys

import psutil
import torch
from accelerate import PartialState


def default_workers() -> int:
    """Decoding processes where the user names none: one for each core that this process may use, eight at most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, cores)


def processes(*, use_cpu: bool = False) -> PartialState:
    """Device of this process and its place among the others.

    Without an accelerator accelerate must be told to use the CPU, or every process takes itself for the only one.
    """
    state = PartialState(cpu=use_cpu or not torch.accelerator.is_available())
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes != started:
        raise RuntimeError(f"{started} processes were started, {state.num_processes} found each other")
    return state


def peak_memory() -> int:
    """The most bytes of memory that this process has held at once; on a system that does not tell, those that it holds now."""
    try:
        import resource
    except ImportError:  # Windows
        memory = psutil.Process().memory_info()
        return int(getattr(memory, "peak_wset", memory.rss))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts bytes, Linux kibibytes
