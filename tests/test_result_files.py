"""Result files: tables without formulas for spreadsheets, and file names that are not UTF-8."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import trickzoo
from tests.commands import call, caller
from tests.images import jpeg
from trickzoo import environment, files, result_files
from trickzoo.cli import evaluation, zoo
from trickzoo.data.loaders import Streamed
from trickzoo.data.readers.imagenet import open_imagenet
from trickzoo.errors import BadData, BadOption


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1+1", "'+1+1"),
        ("-x", "'-x"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\\t=1"),
        ("\r=1", "'\\r=1"),
        ("a\n=1\x1b[2J", "a\\n=1\\x1b[2J"),
        ("＝1+1", "'＝1+1"),
        ("-5.25", "-5.25"),
        ("+3", "+3"),
        ("-1e-05", "-1e-05"),
        ("-1_0", "'-1_0"),
        ("-٣", "'-٣"),
        (-5.25, "-5.25"),
        (None, ""),
        ("a=b", "a=b"),
        ("cat, big", "cat, big"),
        ("caf\udce9.jpg", "caf\\xe9.jpg"),
        ("", ""),
    ],
)
def test_formulas_are_escaped_in_csv_files(cell: object, written: str, tmp_path: Path) -> None:
    result_files.write_csv(tmp_path / "t.csv", ("name", "=head"), [(cell, 1)])
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["name", "'=head"], [written, "1"]]


def test_json_keeps_the_bytes_of_a_name(tmp_path: Path) -> None:
    result_files.write_json(tmp_path / "r.json", {"image": "caf\udce9 é"})
    assert json.loads((tmp_path / "r.json").read_bytes()) == {"image": "caf\udce9 é"}
    assert os.fsencode(json.loads((tmp_path / "r.json").read_bytes())["image"]).startswith(b"caf\xe9")


@pytest.fixture
def latin(tmp_path: Path) -> Path:
    """Create images of two classes, one of which has a folder name in Latin-1."""
    for label in ("n01440764", "n02102040"):
        jpeg(tmp_path / "set" / label / "a.jpg")
    os.rename(tmp_path / "set/n01440764/a.jpg", os.fsencode(tmp_path / "set/n01440764") + b"/caf\xe9.jpg")
    return tmp_path / "set"


def test_images_whose_names_are_not_utf_8(tiny: Path, latin: Path, tmp_path: Path) -> None:
    images = open_imagenet(latin)
    assert [os.fsencode(name) for name in images.names] == [b"n01440764/caf\xe9.jpg", b"n02102040/a.jpg"]
    assert Streamed(images).digest.partition("-")[0] == hashlib.sha256(b"n01440764/caf\xed\xb3\xa9.jpg\0n02102040/a.jpg\0").hexdigest()
    outputs = ("--out", tmp_path / "o.json", "--predictions", tmp_path / "p.csv", "--workers", 0)
    assert call(evaluation, "imagenet", "--data", latin, "--model", tiny, *outputs) == 0
    assert "n01440764/caf\\xe9.jpg," in (tmp_path / "p.csv").read_text(encoding="utf-8")
    (latin / os.fsdecode(b"n01440764/caf\xe9.jpg")).write_bytes(b"no image")
    assert call(evaluation, "imagenet", "--data", latin, "--model", tiny, "--skip-corrupt", *outputs) == 0
    (result,) = json.loads((tmp_path / "o.json").read_bytes())["results"]
    assert result["data"]["corrupt_left_out"][0]["image"] == "n01440764/caf\udce9.jpg"


def test_a_class_whose_name_is_not_utf_8_is_refused(latin: Path) -> None:
    os.rename(latin / "n01440764", os.fsencode(latin) + b"/r\xe9d")
    with pytest.raises(BadData, match=r"the name of the class folder b'r\\xe9d' is not UTF-8; rename it"):
        open_imagenet(latin)


ROOT = Path(environment.__file__).parents[1]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_the_commit_is_the_one_of_the_checkout() -> None:
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert environment.describe()["commit"].rstrip("+") == head


def test_the_processor_and_the_threads_of_a_training_are_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_cpuinfo", lambda: {"model name": "AMD EPYC", "cpu family": "25", "model": "17"})
    found = environment.describe()
    assert found["hardware"].startswith(f"{os.cpu_count()} × AMD EPYC, ")
    assert found["processor"] == f"family 25, model 17, {torch.backends.cpu.get_cpu_capability()}"
    assert found["threads"] == torch.get_num_threads()
    monkeypatch.setattr(environment, "_cpuinfo", dict)  # as on other systems than Linux
    assert environment.describe()["processor"] == torch.backends.cpu.get_cpu_capability()


def test_outside_a_checkout_the_commit_is_the_one_that_is_stated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "trickzoo" / "environment.py"))
    assert environment.commit.__wrapped__() is None
    monkeypatch.setenv("TRICKZOO_COMMIT", "c0ffee")
    assert environment.commit.__wrapped__() == "c0ffee"


def test_reading_the_commit_writes_nothing_to_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(environment.Path, "exists", lambda path: True)
    monkeypatch.setattr(environment.subprocess, "run", lambda words, **_: asked.append(words) or SimpleNamespace(stdout="c0ffee\n"))
    assert environment.commit.__wrapped__() == "c0ffee+"  # without the cache of the process
    assert all(words[:2] == ["git", "--no-optional-locks"] for words in asked)


def test_a_result_replaces_neither_what_is_read_nor_files_of_another_kind(tmp_path: Path) -> None:
    for name in ("old.json", "weights.safetensors", "cat.jpg", "labels.csv"):
        (tmp_path / name).write_text(name)
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "labels.csv")
    result_files.check_outputs({"--out": tmp_path / "old.json", "--csv": tmp_path / "new.csv", "--report": None}, ("resnet18", None))
    for name, words in (
        ("weights.safetensors", "--out .*weights.safetensors would replace a file that is not a result"),
        ("cat.jpg", "is not a result"),
        ("labels.csv", "would replace a file that the command reads"),
        ("link.csv", "would replace a file that the command reads"),
    ):
        with pytest.raises(BadOption, match=words):
            result_files.check_outputs({"--out": tmp_path / name}, (str(tmp_path / "labels.csv"),))


def test_a_pipe_or_a_device_takes_the_result_and_stays(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    result_files.check_outputs({"--out": pipe})
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    result_files.write_json(pipe, {"a": 1})
    assert json.loads(os.read(reader, 100)) == {"a": 1}
    os.close(reader)
    assert pipe.is_fifo() and [path.name for path in tmp_path.iterdir()] == ["pipe"]
    result_files.check_outputs({"--out": Path(os.devnull)})
    assert files.is_device(Path(os.devnull)) and not files.is_device(tmp_path) and not files.is_device(tmp_path / "new")


def test_commands_refuse_to_replace_what_they_read(capsys: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path) -> None:
    weights = tmp_path / "network.safetensors"
    trickzoo.export(trickzoo.create("mobilenet_v1_025", num_classes=3), weights)
    before = weights.read_bytes()
    for tokens in (
        ("eval", "imagenet", "--data", tiny, "--model", weights, "--out", weights),
        ("predict", tiny, "--weights", weights, "--csv", weights),
        ("probe", "--data", tiny, "--weights", weights, "--csv", weights),
    ):
        status, _, error = caller(capsys, zoo)(*tokens)
        assert (status, "would replace a file that the command reads" in error) == (2, True), error
    assert weights.read_bytes() == before


def test_predictions_do_not_replace_the_annotations(capsys: pytest.CaptureFixture[str], trained: Path, tmp_path: Path) -> None:
    annotations = tmp_path / "annotations.json"
    annotations.write_text("{}")
    options = ("--annotations", annotations, "--images", tmp_path, "--model", trained / "boxes", "--predictions", annotations)
    status, _, error = caller(capsys, zoo, "eval", "coco")(*options)
    assert (status, "--predictions" in error, "would replace a file that the command reads" in error) == (2, True, True), error
    assert annotations.read_text() == "{}"
