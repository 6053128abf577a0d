"""The processes of a run: one, or those that `torchrun` or `accelerate launch` started."""

from __future__ import annotations

import os

import torch
from accelerate import PartialState


def processes(*, use_cpu: bool = False) -> PartialState:
    """Device of this process and its place among the others.

    Without an accelerator accelerate must be told to use the CPU, or every process takes itself for the only one.
    """
    state = PartialState(cpu=use_cpu or not torch.accelerator.is_available())
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes != started:
        raise RuntimeError(f"{started} processes were started, {state.num_processes} found each other")
    return state
