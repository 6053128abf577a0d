"""`trickzoo-eval imagenet` with other engines, precisions and numbers of processes."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from tests.commands import call, evaluate
from tests.images import jpeg
from tests.processes import together
from trickzoo.cli import evaluation
from trickzoo.data.classes import IMAGENETTE


@pytest.mark.parametrize(("backend", "workers"), [("eager", 2), ("onnxruntime", 2), pytest.param("openvino", 2, marks=pytest.mark.slow)])
def test_engines_and_workers_predict_the_same(backend: str, workers: int, tiny: Path, photos: Path, tmp_path: Path) -> None:
    found = []
    for name, count in (("eager", 0), (backend, workers)):
        tokens = ("--data", photos, "--model", tiny, "--device", "cpu", "--workers", count, "--backend", name)
        files = ("--predictions", tmp_path / f"{count}.csv", "--out", tmp_path / f"{count}.json")
        assert call(evaluation, "imagenet", *tokens, *files) == 0
        with (tmp_path / f"{count}.csv").open() as file:
            rows = list(csv.DictReader(file))
        (result,) = json.loads((tmp_path / f"{count}.json").read_text())["results"]
        found.append(([row["top1"] for row in rows], [float(row["p1"]) for row in rows], result))
    (classes, probabilities, eager), (other_classes, other_probabilities, result) = found
    assert classes == other_classes
    assert probabilities == pytest.approx(other_probabilities, abs=1e-5)
    assert eager["backend"] == {"name": "eager", "deviation": 0}
    assert result["backend"]["name"] == backend


def test_8_bit_integers_are_calibrated_on_a_folder_and_predict_nearly_the_same(tiny: Path, photos: Path, tmp_path: Path) -> None:
    found = {}
    for name, options in (("fp32", ()), ("int8", ("--backend", "onnxruntime", "--precision", "int8", "--calibration", photos))):
        tokens = ("--data", photos, "--model", tiny, "--device", "cpu", "--workers", 0, *options)
        assert call(evaluation, "imagenet", *tokens, "--predictions", tmp_path / "p.csv", "--out", tmp_path / "r.json") == 0
        with (tmp_path / "p.csv").open() as file:
            rows = list(csv.DictReader(file))
        (result,) = json.loads((tmp_path / "r.json").read_text())["results"]
        assert result["precision"] == name
        found[name] = [row["top1"] for row in rows], [row["p1"] for row in rows]
    (classes, sure), (other_classes, other_sure) = found["fp32"], found["int8"]
    assert sum(a == b for a, b in zip(classes, other_classes, strict=True)) >= 27  # of 30
    assert sure != other_sure


@pytest.mark.parametrize("shared", [0, 1, 30])
def test_images_of_the_evaluation_in_the_calibration_are_counted(
    shared: int, tiny: Path, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for index, path in enumerate(sorted(photos.rglob("*.JPEG"))):
        link = jpeg(tmp_path / "calibration" / f"{index}.jpg", 100 + index)
        if index < shared:
            link.unlink()
            link.symlink_to(path)
    tokens = ("--backend", "onnxruntime", "--precision", "int8", "--calibration", tmp_path / "calibration", "--workers", 0)
    assert call(evaluation, "imagenet", "--data", photos, "--model", tiny, "--device", "cpu", *tokens) == 0
    said = {0: "", 1: "1 image of the evaluation is used", 30: "30 images of the evaluation are used"}[shared]
    assert said in caplog.text
    assert ("for the calibration too" in caplog.text) == bool(shared)


def test_two_processes_give_the_same_as_one(tiny: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "val" / IMAGENETTE[3] / "1.JPEG").unlink()  # 29 images: an odd number for two
    tokens = ["imagenet", "--data", str(photos), "--model", "mobilenet_v1_025", "--weights", str(tiny)]
    one, two = tmp_path / "one", tmp_path / "two"
    evaluate(*tokens[1:], "--predictions", f"{one}.csv", out=Path(f"{one}.json"))
    own = ("--predictions", f"{two}.csv", "--out", f"{two}.json", "--workers", 0)
    assert together(call, evaluation, *tokens, *own) == [0, 0]
    assert Path(f"{two}.csv").read_text() == Path(f"{one}.csv").read_text()
    (a,), (b,) = (json.loads(Path(f"{path}.json").read_text())["results"] for path in (one, two))
    assert b.pop("processes") == 2
    for key in ("n", "top1_correct", "top5_correct", "top1_interval", "ece", "data"):
        assert a[key] == b[key]


def test_two_processes_stop_together_and_print_one_message(
    tiny: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (photos / "val" / IMAGENETTE[1] / "1.JPEG").write_bytes(b"no jpeg")
    tokens = ("--data", photos, "--model", "mobilenet_v1_025", "--weights", tiny, "--workers", 0)
    assert together(call, evaluation, "imagenet", *tokens) == [2, 2]
    assert len(re.findall("is not a readable", capfd.readouterr().err)) == 1
