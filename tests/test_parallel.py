"""Trainings of a study that run at once: errors, deaths of processes, and signals."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from trickzoo.errors import BadData, TrickzooError, WorkerLost
from trickzoo.studies.parallel import Train, train_in_parallel
from trickzoo.training import stopping
from trickzoo.training.progress import Progress


def until_stopped(saved: Path, report: Callable[[Progress], None]) -> str:
    """Train until a signal arrives, then save."""
    saved.with_name("begun").touch()
    while not stopping.stop_requested():
        time.sleep(0.01)
    saved.touch()
    raise stopping.Stopped("stopped at step 3 of 9")


def beside(other: Path, what: str, report: Callable[[Progress], None]) -> str:
    """End, in some way, once the other training has begun."""
    while not other.with_name("begun").exists():
        time.sleep(0.01)
    if what == "fails":
        raise BadData("lost.jpg cannot be read")
    if what == "dies":
        os._exit(3)
    return "top-1 80 %"


def trainings(saved: Path, *kinds: str) -> list[Train]:
    return [functools.partial(until_stopped, saved) if kind == "lasts" else functools.partial(beside, saved, kind) for kind in kinds]


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("fails", TrickzooError, "2/3 b: lost.jpg cannot be read"),
        pytest.param("dies", WorkerLost, "2/3 b: its process ended with status 3; run the same command again", marks=pytest.mark.slow),
        pytest.param("ends", stopping.Stopped, "stopped after 1 of 3 training runs; the same command resumes it", marks=pytest.mark.slow),
    ],
)
def test_the_others_save_and_no_training_starts(what: str, error: type[TrickzooError], message: str, tmp_path: Path) -> None:
    told = []

    def tell(line: str) -> None:
        told.append(line)
        if line.endswith("80 %"):
            signal.raise_signal(signal.SIGTERM)

    saved = tmp_path / "saved"
    with pytest.raises(error) as found:
        train_in_parallel(["1/3 a", "2/3 b", "3/3 c"], [0, 1, 2], functools.partial(trainings, saved, "lasts", what, "ends"), 2, tell)
    assert str(found.value) == message
    assert saved.exists()
    assert {line for line in told if line.endswith("started")} == {"1/3 a: started", "2/3 b: started"}
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_trainings_save_when_the_process_that_started_them_is_killed(tmp_path: Path) -> None:
    code = """
import functools, sys
from pathlib import Path
from tests.test_parallel import trainings
from trickzoo.studies.parallel import train_in_parallel
if __name__ == "__main__":
    train_in_parallel(["a"], [0], functools.partial(trainings, Path(sys.argv[1]), "lasts"), 1, print)
"""
    script = tmp_path / "study.py"
    script.write_text(code)
    saved = tmp_path / "saved"
    with subprocess.Popen([sys.executable, str(script), str(saved)], env={**os.environ, "PYTHONPATH": os.getcwd()}) as started:
        while not (tmp_path / "begun").exists():
            time.sleep(0.05)
        children = psutil.Process(started.pid).children(recursive=True)
        started.kill()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert (alive, saved.exists()) == ([], True)
