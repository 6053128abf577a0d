"""Every parser of untrusted files on a few dozen damaged inputs, the same in every run. `make fuzz` tries many more."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.fuzz import check as checking
from tests.fuzz.__main__ import run
from tests.fuzz.check import Target, check
from tests.fuzz.hunt import inputs
from tests.fuzz.targets import TARGETS

SLOW = {"detector header", "keys", "hub parquet"}
"""Targets of which an input takes tenths of a second."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TARGETS)
def test_a_valid_file_is_accepted_and_damaged_ones_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    target.prepare(tmp_path)
    whole = check(target, target.whole(), tmp_path)
    assert not whole.refused and not whole.failure, whole.details
    failures = []

    def give(content: bytes) -> None:
        outcome = check(target, content, tmp_path)
        if outcome.failure:
            failures.append(f"{outcome.failure} at {outcome.place}: {content[:200]!r}")

    inputs(target, 0, 5 if name in SLOW else 20, give)
    assert not failures


def broken(content: bytes, folder: Path) -> None:
    """A parser that fails on some inputs, and takes the process with it on others."""
    if b"x" in content:
        int(content)
    if content == b"k":
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
def test_inputs_that_fail_are_kept_small_and_those_that_end_the_process_too(tmp_path: Path) -> None:
    target = Target("broken", st.sampled_from([b"1", b"k", b"aaaaxbbbb"]), broken, lambda: b"1")
    found = run([target], tmp_path, seconds=2, jobs=1, seed=0)["broken"]
    kept = {each.failure: (tmp_path / "broken" / each.file).read_bytes() for each in found.failures.values()}
    assert kept == {"ValueError": b"x", "ExitCode-9": b"k"}
    assert found.inputs > 2


def test_too_much_time_or_memory_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "MAX_SECONDS", 0.1)
    monkeypatch.setattr(checking, "MAX_BYTES", 32 << 20)

    def endless(content: bytes, folder: Path) -> None:
        while True:
            pass

    assert check(Target("endless", st.just(b""), endless, lambda: b""), b"", tmp_path).failure == "TooSlow"
    if checking.STATUS.exists():
        monkeypatch.setattr(checking, "MAX_SECONDS", 60)  # on a busy machine, much memory takes time
        large = Target("large", st.just(b""), lambda content, folder: bytearray(64 << 20), lambda: b"")
        assert check(large, b"", tmp_path).failure == "TooLarge"
