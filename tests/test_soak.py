"""Killed trainings end with the weights of uninterrupted ones: the short version of `make soak`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_trainings_end_with_the_same_weights(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.soak", "--kills", "5", "--seed", "1", "--out", str(tmp_path / "soak.json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "soak.json").read_text())
    assert sum(found["kills"].values()) == 6
    assert [training["equal"] for training in found["trainings"]] == [True] * 6
