"""Stopping a training: signals, the lock of the output folder, and processes that stop together."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator, PartialState

from tests.processes import forked, together
from tests.training import RECIPE, Finished, run, same
from trickzoo.classification import task as classification
from trickzoo.classification.model import prepare
from trickzoo.data.resident import Resident
from trickzoo.errors import BadData, InUse, NotWritten, TrickzooError
from trickzoo.training import folder, loop, metrics_log, stopping
from trickzoo.training.progress import Progress

Report = Callable[[Progress], None]

STATE = PartialState(cpu=True)


def test_a_second_ctrl_c_raises_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stopping.handle_signals() as outer, stopping.handle_signals() as inner:
        signal.raise_signal(signal.SIGINT)
        assert outer() and inner()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is before


def test_two_signals_of_different_kinds_only_request_a_stop() -> None:
    with stopping.handle_signals() as asked:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(number)
        assert asked() and stopping.stop_requested()
    assert not stopping.stop_requested()


def test_an_ignored_hangup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping.handle_signals() as asked:
            signal.raise_signal(signal.SIGHUP)
            assert not asked()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_training_in_another_thread_than_the_main_one(resident: Resident, tmp_path: Path) -> None:
    found: list[dict[str, torch.Tensor]] = []
    thread = threading.Thread(target=lambda: found.append(run(resident, tmp_path / "thread", stop_after=2)))
    thread.start()
    thread.join()
    assert same(found[0], run(resident, tmp_path / "main", stop_after=2))


def test_an_evaluation_stops_between_its_batches() -> None:
    with stopping.handle_signals():
        batches = stopping.stoppable(range(5), STATE)
        assert [next(batches), next(batches)] == [0, 1]
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(stopping.Interrupted):
            next(batches)
    assert list(stopping.stoppable(range(3), STATE)) == [0, 1, 2]


def test_a_failed_evaluation_is_repeated_when_the_training_resumes(
    resident: Resident, val: Resident, undisturbed: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise BadData("x.jpg is not readable")

    with monkeypatch.context() as patch:
        patch.setattr("trickzoo.classification.task.predict_resident", broken)
        with pytest.raises(BadData, match=r"x\.jpg is not readable"):
            run(resident, tmp_path / "failed", val=val)
    assert same(run(resident, tmp_path / "failed", val=val), undisturbed.weights)
    assert (tmp_path / "failed" / "metrics.jsonl").read_text() == undisturbed.log()


# ---------------------------------------------------------------------------------------------------------------------
# folders


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[ForkProcess]:
    """Another process, which holds the lock of `tmp_path / "out"`."""
    held = multiprocessing.get_context("fork").Event()

    def hold() -> None:
        with folder.locked(tmp_path / "out", PartialState(cpu=True)):
            held.set()
            threading.Event().wait()

    with forked(hold) as process:
        assert held.wait(60)
        yield process


def test_one_run_holds_a_folder_until_it_ends_or_dies(holder: ForkProcess, tmp_path: Path) -> None:
    wanted = rf"out is in use by process {holder.pid} on \S+, since [-0-9]+ [:0-9]+; wait for it, or name another --out"
    with pytest.raises(InUse, match=wanted), folder.locked(tmp_path / "out", STATE):
        pass
    holder.kill()
    holder.join()
    with folder.locked(tmp_path / "out", STATE):
        assert f"process {os.getpid()} on" in (tmp_path / "out" / folder.HOLDER).read_text()
        with pytest.raises(InUse, match=f"in use by process {os.getpid()}"), folder.locked(tmp_path / "out", STATE):
            pass
    assert not (tmp_path / "out" / folder.HOLDER).exists()
    with folder.locked(tmp_path / "out", STATE):
        pass


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def test_a_lock_waits_for_the_workers_of_a_dead_run(tmp_path: Path) -> None:
    """A forked process shares the lock, and keeps it after the process that acquired it has died."""
    with folder.locked(tmp_path, STATE):
        worker = multiprocessing.get_context("fork").Process(target=_wait, args=(0.7,))
        worker.start()
        lost = (tmp_path / folder.HOLDER).read_text()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / folder.HOLDER).write_text(lost.replace(str(os.getpid()), str(dead.pid)))
    with folder.locked(tmp_path, STATE):
        pass
    worker.join()


def test_only_temporary_files_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    own = [".tz-0123456789abcdef", ".last.pt.0123abcd", ".model.safetensors.89abcdef"]
    others = [".tz-0123", ".last.pt.0123abc", ".last.pt.0123abcd.txt", ".mine.0123abcd", "last.pt.0123abcd", "last.pt"]
    for name in (*own, *others):
        (tmp_path / name).write_text("x")
    with folder.locked(tmp_path, STATE):
        assert {path.name for path in tmp_path.iterdir()} == {*others, folder.LOCK, folder.HOLDER}


@pytest.mark.parametrize("place", ["file", "file/out"])
def test_a_folder_that_cannot_be_created_is_refused(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    wanted = rf"{place} cannot be written \({tmp_path}/file is a file\); name another --out"
    with pytest.raises(NotWritten, match=wanted), folder.locked(tmp_path / place, STATE):
        pass


# ---------------------------------------------------------------------------------------------------------------------
# several processes


def scenes(resident: Resident, out: Path) -> dict[str, str]:
    """Train in several processes, each time with another failure in one of them; how each training ended in this process."""
    accelerator = Accelerator(cpu=True)
    rank = accelerator.process_index
    found = {}

    def scene(name: str, change: Callable[[Any], None] = lambda task: None, report: Report = lambda progress: None) -> None:
        model = prepare(RECIPE, 4, 0)
        task = classification.Classification(RECIPE, model, resident, resident, seed=0, accelerator=accelerator)
        change(task)
        try:
            with folder.locked(out / name, accelerator):
                loop.fit(task, out / name, seed=0, accelerator=accelerator, report=report)
            found[name] = "done"
        except TrickzooError as error:
            found[name] = f"{type(error).__name__}: {error}"

    def bad_image(task: Any) -> None:
        batches = task.batches

        def broken(first: int) -> Iterator[Any]:
            for i, batch in enumerate(batches(first)):
                if rank == 1 and i == 2:
                    raise BadData("x.jpg is not readable")
                yield batch

        task.batches = broken

    def not_a_number(task: Any) -> None:
        loss = task.loss
        steps = iter(range(100))
        task.loss = lambda net, batch: loss(net, batch) * (math.nan if next(steps) == 3 and rank == 1 else 1)

    def bad_validation(task: Any) -> None:
        evaluate = task.evaluate

        def share() -> Iterator[int]:
            if rank == 1:
                raise BadData("v.jpg is not readable")
            yield 0

        def broken() -> Any:
            list(stopping.stoppable(share(), accelerator))
            return evaluate()

        task.evaluate = broken

    def stop(progress: Progress) -> None:
        if rank == 1 and progress.step == 3:
            signal.raise_signal(signal.SIGTERM)

    def full(task: Any) -> None:
        write = metrics_log.Metrics.write

        def broken(self: metrics_log.Metrics, row: dict[str, Any]) -> None:
            if row["step"] == 2:
                raise BadData("no room")
            write(self, row)

        if rank == 0:
            metrics_log.Metrics.write = broken  # type: ignore[method-assign] # this process ends after the scene

    scene("image", bad_image)
    scene("loss", not_a_number)
    scene("validation", bad_validation)
    scene("signal", report=stop)
    scene("full", full)
    accelerator.end_training()
    return found


def test_all_processes_stop_when_one_fails(resident: Resident, tmp_path: Path) -> None:
    first, second = together(scenes, resident, tmp_path)
    last = tmp_path / "signal" / "last.pt"
    for scene, process, line in (("image", 1, "x.jpg is not readable"), ("validation", 1, "v.jpg is not readable"), ("full", 0, "no room")):
        found = [first[scene], second[scene]]
        assert found.pop(process) == f"BadData: {line}"
        assert found == [f"StoppedByOtherProcess: process {process} stopped: {line}"]
    line = f"stopped at step 3 of 14; the same command resumes from {last}"
    assert [first["signal"], second["signal"]] == [f"Stopped: {line}", f"StoppedByOtherProcess: process 0 stopped: {line}"]
    assert first["loss"].startswith("Diverged: the loss is nan at step 3 (epoch 0)")
    assert second["loss"].startswith("StoppedByOtherProcess: process 0 stopped: the loss is nan at step 3 (epoch 0)")
