"""The weights that a training starts from, and those of its teacher."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import trickzoo
from tests.commands import Call, caller, evaluate
from tests.small_recipes import BOTH, BOXES, MASKS, SHAPES, run
from tests.training import COSINE, RECIPE, SMALL, same
from trickzoo import detection, files, segmentation, tasks
from trickzoo.backbone import Backbone
from trickzoo.cli import finetune, zoo
from trickzoo.cli.train import app
from trickzoo.data.location import ImageLocation
from trickzoo.data.transforms import Normalisation
from trickzoo.errors import BadCheckpoint
from trickzoo.recipes.collection import to_dict
from trickzoo.training import checkpoint, network_file
from trickzoo.training import job as jobs
from trickzoo.training.machine import Machine
from trickzoo.training.progress import Progress
from trickzoo.training.stopping import Stopped
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
    trickzoo.export(start, tmp_path / "start.safetensors")
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
    trickzoo.export(model, path)
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
    assert "has other classes (airplane, automobile, bird, …) than the data (c0, c1, c2, …); name a teacher" in error
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


# ---------------------------------------------------------------------------------------------------------------------
# detectors and segmenters


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Any]:
    """Writes a random network of a recipe, with another normalisation than ImageNet's, into a folder as of a training, and loads it."""
    half = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    def write(recipe: Any, classes: tuple[str, ...] | None = None, folder: str = "first") -> Any:
        package: Any = detection if recipe.task == "detection" else segmentation
        (tmp_path / folder).mkdir()
        names = classes or _opened(recipe, tmp_path / "unused").task.data.classes
        torch.manual_seed(5)
        model = package.task.build(recipe, len(names))
        for name, tensor in model.state_dict().items():
            if name.endswith(("running_mean", "bias")):
                tensor.uniform_(-0.1, 0.1)
        model.trunk.weights = LoadedWeights("mine", tmp_path, preprocessing=half)
        path = tmp_path / folder / "model.safetensors"
        network_file.save(model, recipe, names, path, {"recipe": to_dict(recipe), "data_digest": "none"})
        return package.load(path)

    return write


def _opened(recipe: Any, out: Path) -> Any:
    return tasks.prepare(recipe, SHAPES, Machine(out=out, workers=0, device="cpu"))


def _class_layers(recipe: Any) -> tuple[str, ...]:
    return ("roi_heads.box_predictor.",) if recipe.task == "detection" else ("head.4.", "aux_head.4.")


@BOTH
@pytest.mark.parametrize("norms", ["live", "frozen"])
def test_a_detector_or_segmenter_is_trained_further(
    recipe: Any, norms: str, saved: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether BatchNorm is frozen may change from one training to the next."""
    start = saved(recipe)
    task = _opened(replace(recipe, weights=str(tmp_path / "first"), norms=norms), tmp_path / "run").task
    model, image = task.model.eval(), torch.rand(3, 50, 60)
    with torch.inference_mode():
        ours, theirs = ([*net([image])[0].values()] if recipe is BOXES else [net(image[None])] for net in (model, start))
    assert len(theirs[0]) > 0
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 if norms == "frozen" else 0)  # frozen norms round differently
    assert Normalisation.of(model.trunk).mean == (0.5, 0.5, 0.5)
    assert task.weights_sha256 == files.digest(tmp_path / "first" / "model.safetensors")
    assert not caplog.records


@BOTH
@pytest.mark.parametrize("classes", ["fewer", "another order"])
def test_only_the_layers_of_the_classes_start_anew(
    recipe: Any, classes: str, saved: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = _opened(recipe, tmp_path / "unused").task.data.classes
    start = saved(recipe, names[::-1] if classes == "another order" else ("cat", "dog", "bird"))
    caplog.set_level(logging.WARNING)
    mine = replace(recipe, weights=str(tmp_path / "first"))
    model, again = (_opened(mine, tmp_path / "run").task.model for _ in range(2))
    words = f"the classes of {tmp_path / 'first'} differ from those of the data, so the layers that predict them are initialised anew"
    assert [record.getMessage() for record in caplog.records] == [f"mobilenet_v1_025: {words}"] * 2
    assert same(model.state_dict(), again.state_dict())
    for name, tensor in start.state_dict().items():
        new = name.startswith(_class_layers(recipe))
        assert torch.equal(model.state_dict()[name], tensor) is not new, name
    found = run(mine, tmp_path / "run")
    assert found["weights_sha256"] == files.digest(tmp_path / "first" / "model.safetensors")
    package = detection if recipe is BOXES else segmentation
    assert package.load(tmp_path / "run").classes == names


@BOTH
def test_a_training_from_a_whole_network_resumes_from_the_same_file_only(recipe: Any, saved: Any, tmp_path: Path) -> None:
    saved(recipe)
    mine = replace(recipe, weights=str(tmp_path / "first"))

    def stop(progress: Progress) -> None:
        if progress.step == 2:
            signal.raise_signal(signal.SIGTERM)

    run(mine, tmp_path / "straight")
    with pytest.raises(Stopped, match="stopped at step 2 of 6"):
        run(mine, tmp_path / "stopped", report=stop)
    run(mine, tmp_path / "stopped")
    ours, theirs = (checkpoint.read_pickle(tmp_path / name / "last.pt")["model"] for name in ("stopped", "straight"))
    assert same(ours, theirs)
    (tmp_path / "first").rename(tmp_path / "moved")
    assert run(replace(mine, weights=str(tmp_path / "moved")), tmp_path / "straight")["n_train"] == 12
    saved(recipe, ("cat", "dog", "bird"))
    with pytest.raises(BadCheckpoint, match=r"has another recipe: weights is [0-9a-f]{64} there, "):
        run(mine, tmp_path / "straight")


@pytest.mark.parametrize(
    ("recipe", "tokens", "message"),
    [
        (BOXES, ("--fpn-channels", 32), "has another network than the recipe (fpn_channels is 16 there, 32 here); --recipe {path} builds "),
        (BOXES, ("--model", "mobilenet_v1_050"), "(model is mobilenet_v1_025 there, mobilenet_v1_050 here); --recipe {path} builds "),
        (BOXES, ("--model", "resnet18", "--neck", "c4"), "(model is mobilenet_v1_025 there, resnet18 here, neck is fpn there, c4 here)"),
        (MASKS, ("--aux", 0), "has another network than the recipe (aux is 0.5 there, 0.0 here); --recipe {path} builds that of the file"),
        (BOXES, None, "is for detection, not for segmentation; name a file that `trickzoo finetune` wrote for segmentation"),
        (MASKS, None, "is for segmentation, not for detection; name a file that `trickzoo finetune` wrote for detection"),
    ],
    ids=["width", "model", "model and neck", "aux", "boxes for masks", "masks for boxes"],
)
def test_other_networks_are_refused_in_one_line(
    recipe: Any, tokens: tuple[object, ...] | None, message: str, saved: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(recipe, ("cat", "dog", "bird"))
    path = tmp_path / "first" / "model.safetensors"
    other = MASKS if recipe is BOXES else BOXES
    mine = recipe if tokens is not None else other
    (tmp_path / "recipe.json").write_text(json.dumps(to_dict(mine)))
    start = ("shapes", "--task", mine.task, "--images", 12, "--recipe", tmp_path / "recipe.json", "--weights", tmp_path / "first")
    machine = ("--workers", 0, "--device", "cpu", "--out", tmp_path / "run")
    status, _, error = caller(capsys, finetune.app)(*start, *(tokens or ()), *machine)
    assert (status, len(error.splitlines())) == (2, 1)
    assert f"{path} " in error
    assert message.format(path=path) in error
    assert not (tmp_path / "run").exists()


def test_the_recipe_of_the_file_builds_its_network(saved: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(BOXES.but("test.wide", fpn_channels=24, epochs=1))
    tokens = ("shapes", "--task", "detection", "--images", 12, "--weights", tmp_path / "first")
    file = tmp_path / "first" / "model.safetensors"
    status, _, error = caller(capsys, finetune.app)(*tokens, "--recipe", file, "--workers", 0, "--device", "cpu", "--out", tmp_path / "run")
    assert (status, error) == (0, "")
    assert detection.load(tmp_path / "run").recipe.weights == str(tmp_path / "first")  # type: ignore[union-attr]
