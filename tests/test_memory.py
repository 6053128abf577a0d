"""The memory of a process: its peak, and what malloc keeps of freed memory."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys

import pytest

from trickzoo.training import processes

GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")

MEASURE = """
import os
import resource
import sys
from pathlib import Path
import accelerate
import torch
from trickzoo.training import processes
from trickzoo.training.machine import Machine

BLOCK = 64 * 2**20

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

def returned():
    tensor = torch.ones(BLOCK // 4)
    before = resident()
    del tensor
    return before - resident()

for begin in sys.argv[1:]:
    if process := os.fork():
        os.waitpid(process, 0)
    else:
        before = returned()
        exec(begin)
        print(before / BLOCK, returned() / BLOCK)
        break
"""
"""A program that executes each of its arguments in a process of its own, forked after the imports, and prints which part of a large
tensor's memory the system gets back when the tensor is freed, before and after the argument."""


@pytest.mark.skipif(not GLIBC, reason="mallopt exists only in glibc; with another C library the setting is left alone")
def test_trainings_and_evaluations_keep_freed_memory() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    begin = ('Machine(out=Path("none"), device="cpu").accelerator("fp32")', 'processes.processes(device="cpu")')
    found = subprocess.run([sys.executable, "-c", MEASURE, *begin], env=environment, capture_output=True, text=True, check=True)
    assert len(found.stdout.splitlines()) == len(begin)
    for line in found.stdout.splitlines():
        before, after = map(float, line.split())
        assert before > 0.9
        assert after < 0.1


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
