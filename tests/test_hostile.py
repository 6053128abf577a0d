"""No image takes more than 1 GB of memory or ten seconds, however large or thin it is. Each is read in a new process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.hostile import CASES, TASKS, measure, networks, write

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a detector and a segmenter."""
    folder = tmp_path_factory.mktemp("shared")
    networks(folder)
    return folder


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("case", CASES)
def test_an_image_of_any_size_is_read_within_bounds_or_refused_in_one_line(case: str, task: str, shared: Path, tmp_path: Path) -> None:
    found = measure(task, write(CASES[case], tmp_path), shared)
    assert found.memory < 1e9
    assert found.seconds < 10 * CASES[case].count
    assert ("a decompression bomb?" in found.said) == (case == "PNG, 20,000 × 20,000"), found.said
