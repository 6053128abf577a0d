"""`trickzoo-train`, end to end."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from accelerate import PartialState
from PIL import Image
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import trickzoo
from tests.commands import Call, caller, evaluate
from tests.training import COSINE, SMALL
from trickzoo.cli import evaluation, run, zoo
from trickzoo.cli.train import app
from trickzoo.recipes import collection, finetune
from trickzoo.training.folder import locked
from trickzoo.training.machine import default_out
from trickzoo.weights import tensors


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo-train`; (exit status, stdout, stderr)."""
    return caller(capsys, app)


@pytest.mark.parametrize("decode", ["once", "always"])
def test_a_training_gives_weights_that_say_what_they_are(call: Call, decode: str, colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    tokens = ("--recipe", COSINE, "--data", colours, "--out", out, *SMALL, "--micro-batch", 4, "--workers", 0, "--decode", decode)
    tokens = (*tokens, "--tensorboard")
    status, text, _ = call(*tokens)
    assert status == 0
    assert "learning rate 0.003125 for a batch of 8" in text
    result = json.loads((out / "result.json").read_text())
    assert result["micro_batch"] == 4
    stored = collection.from_dict(result["recipe"])
    assert (stored.model, stored.smoothing, stored.schedule, stored.batch_size) == ("mobilenet_v1_025", 0.1, "cosine", 8)
    _, metadata, _ = tensors.read_tensors(out / "model.safetensors")
    header = json.loads(metadata["trickzoo"])
    assert collection.from_dict(header["training"]["recipe"]) == stored

    log = list(csv.DictReader((out / "log.csv").open()))
    assert [(row["epoch"], row["step"]) for row in log] == [("1", "7"), ("2", "14"), ("3", "21")]
    assert float(log[-1]["top1"]) == pytest.approx(result["top1"])
    with Image.open(out / "curves.png") as curves:
        assert curves.size[0] > 800
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("training/loss")] == list(range(1, 22))
    assert events.Scalars("validation/top1")[-1].value == pytest.approx(result["top1"], abs=1e-3)

    evaluated = tmp_path / "evaluated.json"
    weights = ("--model", "mobilenet_v1_025", "--weights", out / "model.safetensors", "--workers", 0, "--out", evaluated)
    with pytest.raises(SystemExit):
        run(evaluation, [str(token) for token in ("imagenet", "--data", colours, *weights)])
    (found,) = json.loads(evaluated.read_text())["results"]
    assert found["top1"] == result["top1"]

    status, text, _ = call(*tokens)  # there is nothing left to do
    assert status == 0
    assert json.loads((out / "result.json").read_text())["top1"] == result["top1"]
    assert "epoch 1 of" not in text


def test_folders_called_by_numbers_keep_their_names(call: Call, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "digits", tmp_path / "run"
    names = ("0", "1", "2", "1000")
    for split in ("train", "val"):
        (data / split).mkdir(parents=True)
        for i, name in enumerate(names):
            (data / split / name).symlink_to(colours / split / f"c{i}")
    assert call("--recipe", COSINE, "--data", data, "--out", out, *SMALL, "--workers", 0)[0] == 0
    weights = out / "model.safetensors"
    assert trickzoo.create("mobilenet_v1_025", weights=weights).weights.classes == tuple(sorted(names))
    result = evaluate("--data", data, "--model", "mobilenet_v1_025", "--weights", weights, out=tmp_path / "o.json")
    assert (result["n"], result["top1"]) == (20, json.loads((out / "result.json").read_text())["top1"])
    capsys.readouterr()
    status, text, _ = caller(capsys, zoo)("predict", colours / "val" / "c0" / "0.png", "--weights", weights, "--json")
    assert status == 0
    assert {row["name"] for row in json.loads(text)[0]["top"]} == set(names)


def test_a_short_training_shortens_its_warm_up_and_says_so(call: Call, colours: Path, tmp_path: Path) -> None:
    tokens = (*SMALL[:4], "--epochs", 1, *SMALL[6:], "--workers", 0, "--out", tmp_path)
    status, text, _ = call("--recipe", COSINE, "--data", colours, *tokens)
    assert status == 0
    note = "the warm-up is shortened from 7 steps to 3, because the training has only 7 steps"
    assert note in text.splitlines()
    assert json.loads((tmp_path / "result.json").read_text())["schedule_notes"] == [note]


def test_the_folder_of_a_training_names_task_model_data_recipe_and_seed(
    call: Call, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my images").symlink_to(colours)
    options = ("--pretrained", "none", *SMALL, "--dry-run", "--workers", 0, "--seed", 3)
    expected = "runs/classification-mobilenet_v1_025-my-images-own.finetune-3"
    assert expected in call(*options, "--data", tmp_path / "my images")[1]
    own, boxes = collection.find("own.finetune"), finetune.SMALL_BOXES
    found = {
        default_out(own, "my images/", 0): "classification-resnet50_d-my-images-own.finetune-0",
        default_out(own, "hf:OWNER/NAME", 0): "classification-resnet50_d-hf-OWNER-NAME-own.finetune-0",
        default_out(boxes, Path("/data/blood ü"), 1): "detection-mobilenet_v1_025-blood-ü-small.detection-1",
        default_out(boxes, Path("/"), 1): "detection-mobilenet_v1_025-small.detection-1",
    }
    assert {str(path): f"runs/{name}" for path, name in found.items()} == {f"runs/{name}": f"runs/{name}" for name in found.values()}
    long = default_out(boxes, Path("x" * 250), 7).name
    assert len(long) <= 255 and long.endswith("-7")


def test_a_training_that_was_stopped_before_its_report_gets_it(call: Call, colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ("--recipe", COSINE, "--data", colours, "--out", out, *SMALL, "--workers", 0, "--lr", 0.01, "--ema", 0.9)
    assert call(*command)[0] == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for name in ("report.html", "predictions.csv"):
        (out / name).unlink()
    status, text, err = call(*command)
    assert (status, err) == (0, "") and "nothing was trained" in text and text.splitlines()[-1] == str(out / "report.html")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    (out / "last.pt").unlink()
    (out / "report.html").unlink()
    status, text, _ = call(*command)
    assert status == 0 and text.splitlines()[-1].startswith(f"{out} holds this training run already")


def test_a_recipe_is_run_again_from_what_it_made(call: Call, colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ("--recipe", COSINE, "--data", colours, "--out", out, *SMALL, "--workers", 0, "--lr", 0.01)
    assert call(*command)[0] == 0
    assert f"{out} holds this training run already, so nothing was trained" in call(*command)[1]
    recipe = collection.from_dict(json.loads((out / "result.json").read_text())["recipe"])
    for name in ("model.safetensors", "last.pt", "result.json", "."):
        assert collection.find(str(out / name)) == recipe
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "last.pt").write_bytes((out / "last.pt").read_bytes())
    assert collection.find(str(unfinished)) == recipe
    again = ("--recipe", out / "model.safetensors", "--data", colours, "--workers", 0)
    assert call(*again, "--out", tmp_path / "again")[0] == 0
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    assert call(*again, "--out", tmp_path / "other", "--seed", 1)[0] == 0
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != (out / "model.safetensors").read_bytes()

    trickzoo.export(trickzoo.create("mobilenet_v1_025", num_classes=4), tmp_path / "no_recipe.safetensors")
    (tmp_path / "broken.json").write_text("{")
    save_file({"a": torch.zeros(1)}, tmp_path / "damaged.safetensors", {"trickzoo": "[]"})
    for name, message in (
        ("damaged.safetensors", "its trickzoo header cannot be read"),
        ("no_recipe.safetensors", "holds no recipe"),
        ("missing.pt", "does not exist"),
        ("broken.json", "is not a JSON file"),
    ):
        status, _, error = call("--recipe", tmp_path / name, "--data", colours)
        assert status == 2
        assert message in error


def test_a_training_that_another_run_is_doing_is_refused(call: Call, colours: Path, tmp_path: Path) -> None:
    with locked(tmp_path, PartialState(cpu=True)):
        status, _, error = call("--recipe", COSINE, "--data", colours, "--out", tmp_path, *SMALL, "--workers", 0)
    assert status == 2
    assert error.splitlines()[-1].startswith(f"trickzoo: {tmp_path} is in use by process {os.getpid()} on ")


def test_dry_run_tells_and_leaves_nothing(call: Call, colours: Path, tmp_path: Path) -> None:
    status, text, _ = call("--recipe", COSINE, "--data", colours, "--out", tmp_path / "run", *SMALL, "--workers", 0, "--dry-run")
    assert status == 0
    assert re.search(r"7 steps an epoch, 21 in all, \d+\.\d\d s each: about \d+ seconds? of training\n", text)
    assert "peak memory" in text
    assert "epoch  learning rate" in text
    assert "in bf16" not in text  # the precision is chosen already
    assert not (tmp_path / "run").exists()


PAPER = [name for name in collection.recipes() if name.startswith("paper.")]
FAST = {"paper.resnet50_d.distill_mixup", "paper.inception_v3.efficient", "paper.mobilenet_v1_100.mixup"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in PAPER])
def test_the_papers_recipes_rehearse_with_a_batch_of_eight_micro_batches(call: Call, name: str, colours: Path, tmp_path: Path) -> None:
    """The batch, the images and the teacher are small; everything else is the recipe's."""
    recipe = collection.find(name)
    size = 80 if recipe.model == "inception_v3" else 32
    small = ["--size", size, "--batch-size", 16, "--micro-batch", 2, "--precision", "bf16" if recipe.precision == "fp16" else "fp32"]
    if recipe.teacher:
        trickzoo.export(trickzoo.create("mobilenet_v1_025", num_classes=4), tmp_path / "teacher.safetensors")
        small += ["--teacher", tmp_path / "teacher.safetensors"]
    status, text, error = call("--recipe", name, "--data", colours, "--workers", 0, "--dry-run", *small)
    assert status == 0, error
    assert f"3 steps an epoch, {3 * recipe.epochs} in all" in text
    assert f"learning rate {0.1 * 16 / 256:g} for a batch of 16" in text


@pytest.mark.parametrize(
    ("data", "out"), [("colours", "colours/train/run"), ("colours", "colours/val/c0"), (".", None), ("link", "colours/train/runs/1")]
)
def test_the_output_of_a_training_is_no_class_of_its_images(
    call: Call, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, out: str | None
) -> None:
    shutil.copytree(colours, tmp_path / "colours")
    (tmp_path / "link").symlink_to("colours")
    monkeypatch.chdir(tmp_path / "colours" / "train" if out is None else tmp_path)
    before = sorted(tmp_path.rglob("*"))
    given = ("--val-fraction", 0.2) if out is None else ("--out", out)
    status, _, error = call("--recipe", COSINE, "--data", data, *given, *SMALL, "--workers", 0)
    assert (status, error.count("\n")) == (2, 1)
    assert f"{out or 'runs/'}" in error and "where each folder is a class; name a folder elsewhere with --out" in error
    assert sorted(tmp_path.rglob("*")) == before


def test_the_output_of_a_training_may_be_beside_its_splits(call: Call, colours: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(colours, data)
    tokens = ("--recipe", COSINE, "--data", data, "--out", data / "runs" / "1", *SMALL, "--workers", 0)
    assert [call(*tokens)[0] for _ in range(2)] == [0, 0]


def test_mistakes_end_in_one_line_and_status_2(call: Call, colours: Path, tmp_path: Path) -> None:
    trickzoo.export(trickzoo.create("mobilenet_v1_025", num_classes=7), tmp_path / "teacher.safetensors")
    whole = ("--recipe", COSINE, "--data", colours, "--out", tmp_path / "run", *SMALL, "--workers", 0)
    for tokens, message in (
        (("--resume", tmp_path, "--data", colours), "no option --resume; the same command resumes a training run that was stopped"),
        (("--seed", 3), "name the folder of images with --data"),
        ((*whole, "--seed", "1.5"), 'Invalid value for --seed: "1.5" is not a whole number'),
        ((*whole, "--micro-batch", "2.0"), 'Invalid value for --micro-batch: "2.0" is not a whole number'),
        (("--recipe", "paper.resnet50_d.mixp"), 'no recipe "paper.resnet50_d.mixp"; did you mean paper.resnet50_d.mixup'),
        (("--recipe", COSINE), "name the folder of images with --data"),
        ((*whole[:2], "--data", colours / "val", *SMALL), "does not tell training images from validation images"),
        ((*whole[:2], "--data", tmp_path / "nowhere", *SMALL), "nowhere does not exist"),
        (("--recipe", COSINE, "--data", colours, "--device", "cpu"), "fp16 needs an accelerator"),
        ((*whole, "--teacher", tmp_path / "teacher.safetensors"), "has 7 classes, the data 4; they must be the same"),
        ((*whole[:4], *SMALL[:-4], "--batch-size", 64, "--precision", "fp32", "--workers", 0), "larger than the training set of 56 images"),
    ):
        status, _, error = call(*tokens)
        assert status == 2, error
        assert message in error
        assert error.startswith("trickzoo: ")
        assert len(error.splitlines()) == 1


def test_a_training_needs_two_classes_that_are_not_empty(call: Call, tmp_path: Path) -> None:
    from tests.images import jpeg

    for split in ("train", "val"):
        for number in range(2):
            jpeg(tmp_path / "data" / split / "a" / f"{number}.jpg", number)
        (tmp_path / "data" / split / "c").mkdir()
    small = (*SMALL[:6], "--warmup-epochs", 0, "--batch-size", 2, "--precision", "fp32", "--workers", 0)
    status, _, error = call("--recipe", COSINE, "--data", tmp_path / "data", *small)
    assert status == 2
    assert "there is one class, a; at least two are needed" in error
