"""Full and read-only disks: one line that names the file, no incomplete file, and no temporary file left."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cyclopts import App

from tests.commands import call
from tests.images import jpeg
from tests.studies import MODEL, RUNGS, simulate
from trickzoo.cli import evaluation, run, zoo
from trickzoo.errors import NotWritten
from trickzoo.files import atomically, file_name, write_atomically
from trickzoo.training import trackers

Disk = Callable[[int], None]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("n01440764", "n02102040"):
        jpeg(tmp_path / "photos" / name / "a.jpg")
    return tmp_path / "photos"


@pytest.mark.parametrize("option", ["--out", "--per-class", "--predictions"])
def test_an_evaluation(option: str, tiny: Path, photos: Path, tmp_path: Path, disk: Disk, capsys: pytest.CaptureFixture[str]) -> None:
    disk(10)
    place = tmp_path / "full"
    status = call(evaluation, "imagenet", "--data", photos, "--model", tiny, "--workers", 0, option, place / "file")
    error = capsys.readouterr().err
    assert (status, error.count("\n")) == (2, 1)
    assert f"trickzoo: {place / 'file'} cannot be written (File too large); make room, or name another place" in error
    assert not list(place.iterdir())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_an_export(suffix: str, tiny: Path, tmp_path: Path, disk: Disk, capsys: pytest.CaptureFixture[str]) -> None:
    disk(1000)
    place = tmp_path / "full"
    status = call(zoo, "export", place / f"x{suffix}", "--model", "mobilenet_v1_025", "--weights", tiny)
    error = capsys.readouterr().err
    assert (status, error.count("\n")) == (2, 1)
    assert f"x{suffix} cannot be written (" in error and "File too large" in error
    assert not list(place.iterdir())


def test_the_report_of_a_study(tmp_path: Path, disk: Disk, capsys: pytest.CaptureFixture[str]) -> None:
    simulate(tmp_path, {rung: [50.0, 51.0] for rung in RUNGS})
    before = sorted(tmp_path.rglob("*"))
    disk(10)
    fields = ("--size", 32, "--epochs", 2, "--batch-size", 8)
    seeds = ("--seeds", 2, "--rungs", ",".join(RUNGS))
    status = call(zoo, "ladder", "--model", MODEL, "--report-only", "--out", tmp_path, *seeds, *fields)
    error = capsys.readouterr().err
    assert (status, error.count("\n")) == (2, 1)
    assert "cannot be written (File too large)" in error
    assert sorted(tmp_path.rglob("*")) == before


def test_generated_images(tmp_path: Path, disk: Disk, capsys: pytest.CaptureFixture[str]) -> None:
    disk(10)
    assert call(zoo, "shapes", tmp_path / "shapes") == 2
    assert "-0.png cannot be written (File too large)" in capsys.readouterr().err
    assert not list((tmp_path / "shapes").iterdir())


def test_tensorboard(tmp_path: Path, disk: Disk, capfd: pytest.CaptureFixture[str]) -> None:
    def progress(step: int) -> Any:
        return SimpleNamespace(step=step, loss=1.0, lr=0.1, evaluation=None)

    def watched(folder: Path) -> None:
        with trackers.tensorboard(folder) as report:
            report(progress(0))
            disk(200)
            for step in range(1, 200):
                report(progress(step))

    with pytest.raises(NotWritten, match=r"board cannot be written \(File too large\)"):
        watched(tmp_path / "board")
    assert "Traceback" not in capfd.readouterr().err
    (tmp_path / "file").touch()
    with pytest.raises(NotWritten, match="file cannot be written"):
        watched(tmp_path / "file")


def test_an_existing_file_keeps_its_content(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    disk(10)
    with pytest.raises(NotWritten, match=r"file cannot be written \(File too large\); pray"):
        write_atomically(path, bytes(11), remedy="pray")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    for below in (path / "below", path / "further" / "below"):
        with pytest.raises(NotWritten, match=rf"below cannot be written \({path} is a file\); make room"):
            write_atomically(below, b"")
    with pytest.raises(ZeroDivisionError), atomically(path):
        raise ZeroDivisionError


def test_names_of_255_bytes(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 124 + ".safe.s")
    assert len(path.name.encode()) == 255
    with atomically(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".tz-")
        temporary.write_bytes(b"content")
    assert list(tmp_path.iterdir()) == [path]


def test_names_of_files_are_cut_to_255_bytes_and_stay_apart(tmp_path: Path) -> None:
    assert file_name("é" * 125 + "a", ".png") == "é" * 125 + "a.png"
    long = [file_name("é" * 126 + end, ".png") for end in ("a", "b")]
    assert long[0] != long[1]
    for name in long:
        assert name.startswith("é" * 120)
        assert name.endswith(".png")
        (tmp_path / name).touch()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_any_other_refusal_of_the_system_is_one_line(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The error may come from the command itself or from a library that it uses."""
    app = App(name="trickzoo")

    @app.default
    def fail() -> None:
        raise OSError(number, os.strerror(number), "/a/b\n")

    assert call(app) == 2
    assert capsys.readouterr().err == f"trickzoo: /a/b\\n: {os.strerror(number)}; make room, or name another place\n"


def test_no_folder_for_temporary_files(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    app = App(name="trickzoo")

    @app.default
    def fail() -> None:
        tempfile.gettempdir()

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/nowhere"])
    assert call(app) == 2
    assert capsys.readouterr().err.startswith("trickzoo: there is no folder for temporary files that can be written; ")


def test_an_unexpected_exception_is_not_hidden() -> None:
    app = App(name="trickzoo")

    @app.default
    def fail() -> None:
        raise FileNotFoundError(errno.ENOENT, "a file of the program")

    with pytest.raises(FileNotFoundError):
        run(app, [])
