"""Samples from worker processes: they arrive unchanged, need few open files, and signals to the workers do no harm."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tests.commands import call
from tests.processes import forked
from tests.samples import Samples
from tests.training import COSINE
from trickzoo.cli import train
from trickzoo.data import workers
from trickzoo.data.batches import read_batches
from trickzoo.data.workers import computed, in_order, in_workers
from trickzoo.errors import BadData, WorkerLost
from trickzoo.signals import SIGNALS


def test_samples_are_what_was_made() -> None:
    keys = [[(i, torch.rand(4)) for i in batch] for batch in in_order(7, 3)]
    assert [len(batch) for batch in keys] == [3, 3, 1]
    here, there = list(in_workers(Samples(), keys, 0)), list(in_workers(Samples(), keys, 2))
    for one, other in zip(chain(*here), chain(*there), strict=True):
        assert (one.key[0], one.words) == (other.key[0], other.words)
        for a, b in zip((one.key[1], *one.tensors), (other.key[1], *other.tensors), strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)
    there[0][0].tensors[1].add_(1)  # they can be written to


class Numbers(Dataset[int]):
    """Its sample is its key."""

    def __getitem__(self, key: int) -> int:
        return key


def _with_process(samples: list[int]) -> list[tuple[int, int]]:
    return [(2 * sample, os.getpid()) for sample in samples]


@pytest.mark.parametrize(("workers", "by_workers"), [(0, True), (2, True), (2, False)])
def test_results_are_computed_where_they_should_be(workers: int, by_workers: bool) -> None:
    batches = list(computed(Numbers(), in_order(7, 3), workers, _with_process, by_workers=by_workers))
    assert [[value for value, _ in batch] for batch in batches] == [[0, 2, 4], [6, 8, 10], [12]]
    processes = {process for batch in batches for _, process in batch}
    assert (os.getpid() not in processes) if workers and by_workers else processes == {os.getpid()}


class _Priority(Dataset[int]):
    def __getitem__(self, key: int) -> int:
        return os.nice(0)


@pytest.mark.parametrize(("device", "lower"), [(None, 0), ("cuda", 0), ("cpu", workers.NICE)])
def test_workers_have_a_lower_priority_than_a_training_on_the_same_cores(device: str | None, lower: int) -> None:
    mine = os.nice(0)
    found = in_workers(_Priority(), [[0], [1]], 1, trains_on=torch.device(device) if device else None)
    assert list(found) == [[min(mine + lower, 19)]] * 2
    assert os.nice(0) == mine


@dataclass
class _Annotated:
    nice: int
    error: str = ""


class _AnnotatedPriority(Dataset[_Annotated]):
    def __getitem__(self, key: tuple[int, Tensor]) -> _Annotated:
        return _Annotated(os.nice(0))


def test_workers_of_fine_tuning_have_it_too() -> None:
    plan = [(torch.tensor([0]), torch.rand(1, 2))]
    (batch,) = read_batches(_AnnotatedPriority(), plan, 1, torch.device("cpu"))
    assert [sample.nice for sample in batch] == [min(os.nice(0) + workers.NICE, 19)]


def test_workers_are_limited_by_the_cores(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, recwarn: Any) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 1)
    monkeypatch.setattr(workers, "PER_CORE", 2)
    samples = list(in_workers(Numbers(), in_order(4, 1), 997))
    assert samples == [[0], [1], [2], [3]]
    assert caplog.messages == ["997 workers are limited to 2, 2 for each core"]
    assert not recwarn


FEW_FILES = """
import resource
import torch
from tests.samples import Samples
from trickzoo.data.workers import in_workers
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
keys = [[(i, torch.rand(4)) for i in range(300)] for _ in range(4)]
print(sum(len(batch) for batch in in_workers(Samples(), keys, 2)))
"""


def test_a_large_batch_needs_few_open_files() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FEW_FILES], capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[1], check=True
    )
    assert done.stdout.strip() == "1200", done.stderr


HALF_READ = """
import os
import sys
import torch
from tests.samples import Samples
from trickzoo.data.workers import in_workers
for number, end in enumerate(sys.argv[1:]):
    if process := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
        continue
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{number}.{name}", os.O_WRONLY | os.O_CREAT), stream)
    keys = ([(i, torch.rand(4))] if i < 30 else ["none of its keys"] for i in range(50))
    half_read = in_workers(Samples(), keys, 2)
    print(len(next(half_read)), flush=True)
    exec(end)
    break
"""


def test_a_process_ends_with_batches_half_read(tmp_path: Path) -> None:
    """The processes are forked from one that has imported torch, and each ends as an interpreter does."""
    ends = {"": 0, "1 / 0": 1, "raise SystemExit(2)": 2, "list(half_read)": 1}
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", HALF_READ, *ends]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment)
    errors = [(tmp_path / f"{number}.err").read_text() for number in range(len(ends))]
    assert [int(status) for status in done.stdout.split()] == list(ends.values()), (done.stderr, errors)
    assert [(tmp_path / f"{number}.out").read_text() for number in range(len(ends))] == ["1\n"] * len(ends)
    assert [error for error in errors if "Exception ignored" in error] == []
    assert "ZeroDivisionError" in errors[1]


class Killed(Dataset[int]):
    """Its sample 5 kills the process that makes it."""

    def __getitem__(self, key: int) -> int:
        if key == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return key


def test_a_worker_that_is_lost_is_one_line_where_its_batch_is_waited_for() -> None:
    before = signal.getsignal(signal.SIGCHLD)
    made = in_workers(Killed(), ([key] for key in range(20)), 1)
    assert next(made) == [0]
    assert signal.getsignal(signal.SIGCHLD) == before
    wanted = "^a decoding worker ended by signal 9, as when memory runs out; run it again, with fewer --workers if memory is short$"
    with pytest.raises(WorkerLost, match=wanted):
        list(made)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("error", [ConnectionResetError, EOFError])
def test_a_worker_that_is_lost_while_it_sends_samples_is_one_line(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    unpack = workers._unpack

    def torn(package: workers.Package) -> list[int]:
        if multiprocessing.parent_process() is not None:  # a worker reads its keys
            return unpack(package)
        (worker,) = multiprocessing.active_children()
        worker.kill()
        raise error

    made = in_workers(Killed(), ([key] for key in range(4)), 1)
    monkeypatch.setattr(workers, "_unpack", torn)
    with pytest.raises(WorkerLost, match="a decoding worker ended by signal 9"):
        next(made)


def test_an_error_of_the_keys_comes_after_the_batches_before_it_and_leaves_no_worker() -> None:
    def keys() -> Iterator[list[tuple[int, Tensor]]]:
        yield [(1, torch.rand(4))]
        raise BadData("no more keys")

    made = in_workers(Samples(), keys(), 2)
    assert len(next(made)) == 1
    with pytest.raises(BadData, match="no more keys"):
        next(made)
    assert not multiprocessing.active_children()


class Raising(Dataset[int]):
    def __getitem__(self, key: int) -> int:
        raise RuntimeError("of the sample's own")


def test_an_error_of_a_sample_is_not_taken_for_a_lost_worker() -> None:
    with pytest.raises(RuntimeError, match="of the sample's own"):
        list(in_workers(Raising(), [[0]], 1))


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_does_not_end_a_worker_that_starts(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = workers._begin

    def interrupted(nice: int, worker: int) -> None:
        os.kill(os.getpid(), number)
        begin(nice, worker)

    monkeypatch.setattr(workers, "_begin", interrupted)
    assert list(in_workers(Numbers(), [[0], [1]], 1)) == [[0], [1]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_saves(
    number: signal.Signals, colours: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = f"--recipe {COSINE} --model mobilenet_v1_025 --size 32 --epochs 5000 --batch-size 8 --precision fp32 --workers 2"
    places = ("--data", colours, "--out", tmp_path / "out", "--evaluate-every", 5000)

    def alone() -> None:
        os.setsid()
        sys.exit(call(train.app, *words.split(), *places))

    metrics = tmp_path / "out" / "metrics.jsonl"
    with forked(alone) as process:
        while not (metrics.exists() and metrics.stat().st_size) and process.is_alive():
            time.sleep(0.02)
        assert process.pid is not None
        os.killpg(process.pid, number)
        process.join(60)
    errors = capfd.readouterr().err
    assert process.exitcode == 130, errors
    assert "the same command resumes from" in errors
    assert (tmp_path / "out" / "last.pt").exists()
