"""Several processes that train or evaluate together, as `torchrun` starts them, but forked from the process of the tests.

A forked process need not import torch again, which would take longer than most tests.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkProcess
from typing import Any
from uuid import uuid4

import pytest
import torch
from accelerate.state import AcceleratorState
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

# The first backward pass decides whether torch may be forked afterwards. It may not once an exporter has registered a device, so this pass
# comes before all tests.
torch.ones(1, requires_grad=True).backward()


@contextmanager
def forked(function: Callable[[], Any]) -> Iterator[ForkProcess]:
    """Within the block, call a function in another process, which ends with the status of a SystemExit or by the signal that kills it."""
    process = multiprocessing.get_context("fork").Process(target=_alone, args=(function,))
    process.start()
    try:
        yield process
    finally:
        process.kill()


def together(function: Callable[..., Any], *arguments: Any, processes: int = 2, restarts: int = 0) -> list[Any]:
    """Call a function in each of several processes, and return what it returns there.

    If a process dies, all of them are started again, at most `restarts` times.
    """
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=str(uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=restarts,
        monitor_interval=0.05,
        start_method="fork",
    )
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")  # otherwise a restart may find the addresses of the dead processes
        try:
            found = elastic_launch(config, _alone)(function, *arguments)
        finally:
            for process in multiprocessing.active_children():  # there are some if the test has run out of time
                process.kill()
            for number, handler in handlers.items():  # the launcher leaves its own
                signal.signal(number, handler)
    return [found[rank] for rank in range(processes)]


def _alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process that does not know of Accelerate's state in the process of the tests."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return function(*arguments)
