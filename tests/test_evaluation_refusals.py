"""What `trickzoo-eval imagenet` refuses, and what it leaves out and counts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import trickzoo
from tests.commands import call, evaluate
from tests.images import bomb, jpeg
from trickzoo.cli import evaluation
from trickzoo.data.classes import IMAGENETTE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "1.JPEG").write_bytes(b"\xff\xd8 no jpeg"), "n02102040/1.JPEG is not a readable"),
        (lambda folder: bomb(folder / "9.png"), r"n02102040/9.png would unpack to .* decompression bomb"),
    ],
    ids=["corrupt", "bomb"],
)
def test_bad_images_stop_the_run_or_are_counted(
    change: Any, message: str, tiny: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(photos / "val" / IMAGENETTE[1])
    tokens = ("--data", photos, "--model", "mobilenet_v1_025", "--weights", tiny)
    out = tmp_path / "out.json"
    assert call(evaluation, "imagenet", *tokens, "--workers", 0, "--out", out) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert "--skip-corrupt" in error
    assert len(error.splitlines()) == 1
    assert not out.exists()
    result = evaluate(*tokens, "--skip-corrupt", out=out)
    (skipped,) = result["data"]["corrupt_left_out"]
    assert IMAGENETTE[1] in skipped["image"]
    assert result["n"] + len(result["data"]["corrupt_left_out"]) in (30, 31)
    assert "1 file left out that cannot be read as an image" in capsys.readouterr().out


def test_files_that_are_not_images_are_counted_and_named(
    tiny: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (photos / "val" / IMAGENETTE[1] / "notes.txt").write_text("x")
    (photos / "val" / "empty").mkdir()
    result = evaluate("--data", photos, "--model", "mobilenet_v1_025", "--weights", tiny, out=tmp_path / "out.json")
    assert result["data"]["corrupt_left_out"] == [{"image": f"{IMAGENETTE[1]}/notes.txt", "reason": "not an image"}]
    assert f"1 file is not read as images and left out (1 .txt): {IMAGENETTE[1]}/notes.txt" in caplog.text
    out = capsys.readouterr().out
    assert "1 file left out that cannot be read as an image" in out
    assert "1 empty class folder left out: empty" in out


def test_unknown_classes(tiny: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = ("--data", photos, "--model", "mobilenet_v1_025", "--weights", tiny)
    jpeg(photos / "val" / "n99999999" / "a.JPEG")
    jpeg(photos / "val" / "cats" / "a.JPEG")
    assert call(evaluation, "imagenet", *tokens, "--workers", 0) == 2
    error = capsys.readouterr().err
    assert "2 class folders are not among the model's 10 classes: cats, n99999999" in error
    assert "--skip-unknown" in error
    result = evaluate(*tokens, "--skip-unknown", out=tmp_path / "o.json")
    assert result["n"] == 30
    assert result["data"]["unknown_left_out"] == 2
    strange = tmp_path / "strange"
    jpeg(strange / "cats" / "a.JPEG")
    assert call(evaluation, "imagenet", "--data", strange, *tokens[2:]) == 2
    assert "not one of 1 class folder (cats) is among" in capsys.readouterr().err


MINE = ["--data", "PHOTOS", "--model", "mobilenet_v1_025", "--weights", "TINY"]


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["--data", "nowhere", "--model", "resnet18"], "nowhere does not exist"),
        (["--data", "PHOTOS", "--model", "resnet50d"], 'no model "resnet50d"; did you mean resnet50_d'),
        (["--data", "PHOTOS", "--model", "mobilenet_v1_050"], "no weights are published for mobilenet_v1_050; mobilenet_v1_100, "),
        (["--data", "PHOTOS", "--model", "resnet18", "--weights", "gluon"], "did you mean resnet18.gluon_in1k"),
        (["--data", "PHOTOS", "--model", "resnet18"], "connection refused"),
        ([*MINE, "--classes", "imagenet1k"], "10 outputs, but the class list has 1,000"),
        ([*MINE, "--batch-size", "0"], "--batch-size must be 1"),
        ([*MINE, "--batch-size", "99999999999999999999"], "--batch-size must be at most 9,007,199,254,740,992"),
        ([*MINE, "--size", "0"], "--size must be 1 or more, not 0"),
        ([*MINE, "--size=-3"], "--size must be 1 or more, not -3"),
        ([*MINE, "--crop", "0"], "--crop must be above 0 and at most 1, not 0"),
        ([*MINE, "--crop", "1.5"], "--crop must be above 0 and at most 1, not 1.5"),
        (
            [*MINE, "--backend", "auto", "--precision", "fp16"],
            "--backend auto has no fp16 on a CPU; use --precision bf16 or fp32",
        ),
        ([*MINE, "--device", "cpu", "--precision", "fp16"], "--precision fp16 needs an accelerator; take --precision bf16 or fp32"),
        ([*MINE, "--precision", "int8"], "--precision int8 and --calibration FOLDER belong together"),
        ([*MINE, "--calibration", "PHOTOS"], "--precision int8 and --calibration FOLDER belong together"),
        ([*MINE, "--precision", "int8", "--calibration", "PHOTOS"], "--precision int8 needs --backend onnxruntime or openvino"),
        ([*MINE, "--workers=-1"], "--workers must be 0 or more, not -1"),
        (["--data", "PHOTOS", "--model", "resnet18", "--model", "resnet34", "--weights", "x"], "--weights is for one --model"),
        ([*MINE, "--out", "PHOTOS"], "is a folder; name a file"),
        ([*MINE, "--out", "r.json", "--per-class", "./r.json"], "--out and --per-class are both r.json; name a different path for each"),
        ([*MINE, "--per-class", "r.csv", "--predictions", "r.csv"], "--per-class and --predictions are both r.csv"),
        (["--data", "PHOTOS", "--model", "vgg*"], 'no model with a default weight "vgg*"'),
        (["--data", "PHOTOS"], "--model"),
        (["--data", "PHOTOS", "--model", "resnet18", "--precison", "fp32"], "--precison"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_end_in_one_line_and_status_2(
    tokens: list[str], message: str, tiny: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"PHOTOS": str(photos), "TINY": str(tiny)}
    assert call(evaluation, "imagenet", *(places.get(token, token) for token in tokens)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("trickzoo: ")
    assert "Traceback" not in error


def test_a_file_without_preprocessing_or_classes_must_be_told(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bare.safetensors"
    trickzoo.export(trickzoo.create("mobilenet_v1_025", num_classes=10, activation="relu6"), path, layout="timm")
    tokens = ["--data", photos, "--model", "mobilenet_v1_025", "--weights", path]
    assert call(evaluation, "imagenet", *tokens) == 2
    assert "10 outputs and does not state its classes" in capsys.readouterr().err
    tokens += ["--classes", "folders"]
    assert call(evaluation, "imagenet", *tokens) == 2
    assert "pass --size, --crop and --interpolation" in capsys.readouterr().err
    result = evaluate(*tokens, "--size", 32, "--crop", 1.0, "--interpolation", "bicubic", out=tmp_path / "o.json")
    assert result["n"] == 30


def test_weights_that_give_no_numbers_are_refused(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = trickzoo.create("mobilenet_v1_025")
    torch.nn.init.constant_(model.head.fc.weight, float("nan"))  # type: ignore[arg-type]
    trickzoo.export(model, tmp_path / "nan.safetensors")
    tokens = ("--weights", tmp_path / "nan.safetensors", "--size", 32, "--crop", 1.0, "--interpolation", "bicubic", "--workers", 0)
    assert call(evaluation, "imagenet", "--data", photos, "--model", "mobilenet_v1_025", *tokens) == 2
    assert "not finite" in capsys.readouterr().err
