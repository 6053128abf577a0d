"""The weights that a training starts from, and those of its teacher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import trickzoo
from tests.commands import Call, caller, evaluate
from tests.training import COSINE, RECIPE, SMALL
from trickzoo import files, tasks
from trickzoo.backbone import Backbone
from trickzoo.cli import zoo
from trickzoo.cli.train import app
from trickzoo.data.location import ImageLocation
from trickzoo.errors import BadCheckpoint
from trickzoo.training import job as jobs
from trickzoo.training.machine import Machine
from trickzoo.weights import publish
from trickzoo.weights.loaded import LoadedWeights
from trickzoo.weights.record import Preprocessing

COLOURS = ("c0", "c1", "c2", "c3")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo-train`; (exit status, stdout, stderr)."""
    return caller(capsys, app)


def test_a_checkpoint_is_a_weight_too(call: Call, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = (*SMALL[:4], "--batch-size", 8, "--precision", "fp32", "--workers", 0)
    tokens = ("--recipe", COSINE, "--data", colours, *small, "--epochs", 2, "--warmup-epochs", 1, "--ema", 0.5)
    assert call(*tokens, "--out", tmp_path / "run")[0] == 0
    last = tmp_path / "run" / "last.pt"
    result = evaluate("--data", colours, "--model", "mobilenet_v1_025", "--weights", last, out=tmp_path / "o.json")
    assert result["top1"] == json.loads((tmp_path / "run" / "result.json").read_text())["top1"]
    capsys.readouterr()
    status, text, _ = caller(capsys, zoo)("predict", colours / "val" / "c0" / "0.png", "--weights", last, "--json")
    assert (status, {row["class"] for row in json.loads(text)[0]["top"]}) == (0, {"c0", "c1", "c2", "c3"})
    for name, value in (("--teacher", last), ("--pretrained", last)):
        status, _, error = call(*tokens, "--out", tmp_path / "again", name, value, "--dry-run")
        assert (status, error) == (0, "")


def test_fine_tuning_keeps_the_features_and_their_normalisation(call: Call, colours: Path, tmp_path: Path) -> None:
    start = trickzoo.create("mobilenet_v1_025", num_classes=7)
    mine = Preprocessing(size=32, crop=1.0, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    start.weights = LoadedWeights("mine", tmp_path, preprocessing=mine)
    publish.export(start, tmp_path / "start.safetensors")
    small = ("--model", "mobilenet_v1_025", "--size", 32, "--epochs", 2, "--batch-size", 8, "--workers", 0)
    tokens = ("--recipe", "own.finetune", "--pretrained", tmp_path / "start.safetensors", "--data", colours, *small)
    assert call(*tokens, "--out", tmp_path / "still", "--lr", 1e-12)[0] == 0
    tuned = trickzoo.create("mobilenet_v1_025", weights=tmp_path / "still" / "model.safetensors")
    assert tuned.num_classes == 4
    assert tuned.weights.preprocessing.mean == mine.mean
    for name, weight in start.stem.named_parameters():
        torch.testing.assert_close(tuned.stem.get_parameter(name), weight)
    assert call(*tokens, "--out", tmp_path / "run")[0] == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["recipe"]["pretrained"].endswith("start.safetensors")
    status, _, error = call(*tokens, "--out", tmp_path / "zero", "--zero-gamma", "true")
    assert (status, "zero_gamma would undo the weights of pretrained" in error) == (2, True)


def _of_classes(path: Path, classes: tuple[str, ...]) -> Backbone:
    model = trickzoo.create("mobilenet_v1_025", num_classes=4).eval()
    model.weights = LoadedWeights(str(path), path, classes=classes)
    publish.export(model, path)
    return model


def _prepared(colours: Path, tmp_path: Path, **changes: str) -> Any:
    recipe = RECIPE.but("test.classes", mixup=0.0, **changes)
    location = ImageLocation(data=colours, cache=tmp_path / "cache")
    return tasks.prepare(recipe, location, Machine(out=tmp_path / "run", workers=0, device="cpu")).task


def test_a_teachers_classes_are_put_into_the_datas_order(colours: Path, tmp_path: Path) -> None:
    model = _of_classes(tmp_path / "teacher.safetensors", ("c2", "c0", "c3", "c1"))
    teacher = _prepared(colours, tmp_path, teacher=str(tmp_path / "teacher.safetensors")).teacher
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(teacher(images), model(images)[:, [1, 3, 0, 2]])
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in teacher.modules())  # which makes it faster


def test_replaced_weights_and_teachers_are_another_training(colours: Path, tmp_path: Path) -> None:
    """At the same path."""
    paths = {name: tmp_path / f"{name}.safetensors" for name in ("pretrained", "teacher")}
    for path in paths.values():
        _of_classes(path, COLOURS)
    recipe = RECIPE.but("test.files", epochs=1, **{name: str(path) for name, path in paths.items()})
    machine = Machine(out=tmp_path / "run", workers=0, device="cpu")

    def run() -> dict[str, Any]:
        return jobs.run(tasks.prepare(recipe, ImageLocation(data=colours, cache=tmp_path / "cache"), machine))

    found = run()
    digests = {name: files.digest(path) for name, path in paths.items()}
    assert (found["weights_sha256"], found["teacher_sha256"]) == tuple(digests.values())
    assert run()["date"] == found["date"]
    for name, path in paths.items():
        before = path.read_bytes()
        path.unlink()
        torch.manual_seed(99)  # other weights
        _of_classes(path, COLOURS)
        with pytest.raises(BadCheckpoint, match=rf"result\.json has another recipe: {name} is {digests[name]} there, "):
            run()
        path.write_bytes(before)


def test_a_teacher_of_other_classes_is_refused(call: Call, colours: Path, tmp_path: Path) -> None:
    _of_classes(tmp_path / "teacher.safetensors", ("airplane", "automobile", "bird", "truck"))
    tokens = ("--recipe", COSINE, "--data", colours, "--out", tmp_path / "run", *SMALL, "--workers", 0)
    status, _, error = call(*tokens, "--teacher", tmp_path / "teacher.safetensors")
    assert status == 2
    assert "is of other classes (airplane, automobile, bird, …) than the data (c0, c1, c2, …); name a teacher" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("stated", [COLOURS, COLOURS[::-1], ("cat", "dog", "bird", "cow")], ids=["same", "other order", "others"])
def test_a_classifier_is_kept_where_its_classes_are_the_datas(
    stated: tuple[str, ...], colours: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start = _of_classes(tmp_path / "start.safetensors", stated)
    model = _prepared(colours, tmp_path, pretrained=str(tmp_path / "start.safetensors")).model
    assert torch.equal(model.stem.conv.weight, start.stem.conv.weight)
    assert model.weights.classes == COLOURS
    new = set(stated) != set(COLOURS)
    words = f"the classes of {start.weights.name} differ from those of the data, so the classifier is initialised anew"
    assert [record.getMessage() for record in caplog.records] == ([f"mobilenet_v1_025: {words}"] if new else [])
    kept = start.head.fc.weight if stated == COLOURS else start.head.fc.weight.flip(0)
    assert torch.equal(model.head.fc.weight, kept) is not new
