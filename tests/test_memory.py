"""The memory of a process: its peak, and what malloc keeps of freed memory."""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.processes import forked
from trickzoo.training import processes
from trickzoo.training.machine import Machine

MALLOPT = getattr(ctypes.CDLL(None), "mallopt", None)
PAGES = 64 * 2**20 // resource.getpagesize()
"""Number of pages of the tensor of 64 MiB that the tests allocate."""


def faults() -> int:
    """Return how often the system had to give a page to this process, while it allocated and freed a tensor ten times."""
    torch.ones(16 * 2**20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(16 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def begin_training() -> None:
    Machine(out=Path("none"), device="cpu").accelerator("fp32")


def begin_evaluation() -> None:
    processes.processes(device="cpu")


@pytest.mark.skipif(MALLOPT is None, reason="the C library is not glibc")
@pytest.mark.parametrize("begin", [begin_training, begin_evaluation])
def test_trainings_and_evaluations_keep_freed_memory(begin: Callable[[], None]) -> None:
    def child() -> None:
        MALLOPT(processes.M_MMAP_MAX, 65536)  # as glibc begins; an earlier test may have begun a training
        MALLOPT(processes.M_TRIM_THRESHOLD, 128 * 2**10)
        returned = faults()
        begin()
        raise SystemExit(int(not (returned > 9 * PAGES and faults() < returned / 2)))

    with forked(child) as process:
        process.join()
    assert process.exitcode == 0


@pytest.mark.skipif(MALLOPT is None, reason="the C library is not glibc")
def test_the_environment_of_malloc_has_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: pytest.fail("malloc must not be changed"))
    processes.keep_freed_memory()


def test_peak_memory_without_the_resource_module(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil  # noqa: F401, on this system it needs the module when it is imported

    here = processes.peak_memory()
    monkeypatch.setitem(sys.modules, "resource", None)
    assert 0.2 * here < processes.peak_memory() <= 1.2 * here


def test_peak_memory_is_unknown_without_both_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("resource", "psutil"):
        monkeypatch.setitem(sys.modules, name, None)
    assert processes.peak_memory() is None


def test_peak_memory_in_the_units_of_each_system(monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr(resource, "getrusage", lambda _: type("Usage", (), {"ru_maxrss": 5_000}))
    for system, wanted in (("linux", 5_120_000), ("darwin", 5_000)):
        monkeypatch.setattr(sys, "platform", system)
        assert processes.peak_memory() == wanted
