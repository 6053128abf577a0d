"""`trickzoo-train`, end to end, and recipes from text."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState
from PIL import Image
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import trickzoo
from tests.commands import Call, caller, evaluate
from tests.training import COSINE, RECIPE, SMALL
from trickzoo import files, tasks
from trickzoo.backbone import Backbone
from trickzoo.cli import evaluation, run, zoo
from trickzoo.cli.train import app
from trickzoo.data.location import ImageLocation
from trickzoo.errors import BadCheckpoint, BadOption
from trickzoo.recipes import collection, finetune, scaled
from trickzoo.recipes.recipe import Augmentation, Recipe
from trickzoo.training import job as jobs
from trickzoo.training.folder import held
from trickzoo.training.machine import Machine, default_out
from trickzoo.weights import publish, tensors
from trickzoo.weights.loaded import LoadedWeights
from trickzoo.weights.record import Preprocessing

ROOT = Path(__file__).parents[1]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo-train`; (exit status, stdout, stderr)."""
    return caller(capsys, app)


@pytest.mark.parametrize("decode", ["once", "always"])
def test_a_training_gives_weights_that_say_what_they_are(call: Call, decode: str, colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    tokens = ("--recipe", COSINE, "--data", colours, "--out", out, *SMALL, "--workers", 0, "--decode", decode, "--tensorboard")
    status, text, _ = call(*tokens)
    assert status == 0
    assert "learning rate 0.003125 for a batch of 8" in text
    result = json.loads((out / "result.json").read_text())
    stored = collection.from_plain(result["recipe"])
    assert (stored.model, stored.smoothing, stored.schedule, stored.batch_size) == ("mobilenet_v1_025", 0.1, "cosine", 8)
    _, metadata, _ = tensors.read_tensors(out / "model.safetensors")
    header = json.loads(metadata["trickzoo"])
    assert collection.from_plain(header["training"]["recipe"]) == stored

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
    recipe = ("--recipe", "own.finetune", "--pretrained", "none", *SMALL, "--dry-run", "--workers", 0, "--seed", 3)
    expected = "runs/classification-mobilenet_v1_025-my-images-own.finetune-3"
    assert expected in call(*recipe, "--data", tmp_path / "my images")[1]
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


def test_a_recipe_is_run_again_from_what_it_made(call: Call, colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ("--recipe", COSINE, "--data", colours, "--out", out, *SMALL, "--workers", 0, "--lr", 0.01)
    assert call(*command)[0] == 0
    assert f"{out} holds this training already, so nothing was trained" in call(*command)[1]
    recipe = collection.from_plain(json.loads((out / "result.json").read_text())["recipe"])
    for name in ("model.safetensors", "last.pt", "result.json"):
        assert collection.find(str(out / name)) == recipe
    again = ("--recipe", out / "model.safetensors", "--data", colours, "--workers", 0)
    assert call(*again, "--out", tmp_path / "again")[0] == 0
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    assert call(*again, "--out", tmp_path / "other", "--seed", 1)[0] == 0
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != (out / "model.safetensors").read_bytes()

    publish.export(trickzoo.create("mobilenet_v1_025", num_classes=4), tmp_path / "no_recipe.safetensors")
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


COLOURS = ("c0", "c1", "c2", "c3")


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


def test_a_training_that_another_run_is_doing_is_refused(call: Call, colours: Path, tmp_path: Path) -> None:
    with held(tmp_path, PartialState(cpu=True)):
        status, _, error = call("--recipe", COSINE, "--data", colours, "--out", tmp_path, *SMALL, "--workers", 0)
    assert status == 2
    assert error.splitlines()[-1].startswith(f"trickzoo: {tmp_path} is in use by process {os.getpid()} on ")


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


def test_dry_run_tells_and_leaves_nothing(call: Call, colours: Path, tmp_path: Path) -> None:
    status, text, _ = call("--recipe", COSINE, "--data", colours, "--out", tmp_path / "run", *SMALL, "--workers", 0, "--dry-run")
    assert status == 0
    assert re.search(r"7 steps an epoch, 21 in all, \d+\.\d\d s each: about \d+ seconds? of training\n", text)
    assert "peak memory" in text
    assert "epoch  learning rate" in text
    assert "in bf16" not in text  # the precision is chosen already
    assert not (tmp_path / "run").exists()


PAPER = [name for name in collection.recipes() if name.startswith("paper.")]
FAST = {
    "paper.resnet50.bs1024.fp16",
    "paper.resnet50_d.distill_mixup",
    "paper.inception_v3.efficient",
    "paper.mobilenet_v1_100.mixup",
    "paper.places365.resnet50_d.best",
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in PAPER])
def test_the_papers_recipes_rehearse_with_a_batch_of_eight_micro_batches(call: Call, name: str, colours: Path, tmp_path: Path) -> None:
    """The batch, the images and the teacher are small; everything else is the recipe's."""
    recipe = collection.find(name)
    size = 80 if recipe.model == "inception_v3" else 32
    small = ["--size", size, "--batch-size", 16, "--micro-batch", 2, "--precision", "bf16" if recipe.precision == "fp16" else "fp32"]
    if recipe.teacher:
        publish.export(trickzoo.create("mobilenet_v1_025", num_classes=4), tmp_path / "teacher.safetensors")
        small += ["--teacher", tmp_path / "teacher.safetensors"]
    status, text, error = call("--recipe", name, "--data", colours, "--workers", 0, "--dry-run", *small)
    assert status == 0, error
    assert f"3 steps an epoch, {3 * recipe.epochs} in all" in text
    assert f"learning rate {0.1 * 16 / 256:g} for a batch of 16" in text


@pytest.mark.parametrize("name", sorted(collection.recipes()))
def test_every_recipe_is_printed_and_read_back(call: Call, name: str) -> None:
    status, text, _ = call("--recipe", name, "--print-recipe")
    assert status == 0
    assert collection.from_plain(json.loads(text)) == collection.find(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mixupp": 0.2}, 'a recipe has no field "mixupp"; did you mean mixup'),
        ({"epoch": 3}, 'a recipe has no field "epoch"; did you mean epochs'),
        ({"epochs": "many"}, "recipe field epochs: Expected `int`, got `str`"),
        ({"augmentation": {"fliip": 0.5}}, 'a recipe has no field "augmentation.fliip"; did you mean flip'),
        ({"augmentation": {"flip": []}}, "recipe field augmentation.flip: Expected `float`"),
        ({"jitter": 0.0}, 'a recipe has no field "jitter"; did you mean augmentation.jitter'),
        ({"augmentation": None}, "recipe field augmentation: Expected `object`, got `null`"),
    ],
    ids=str,
)
def test_a_file_with_another_field_is_refused(call: Call, change: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text(json.dumps(collection.plain(collection.find(COSINE)) | change))
    status, _, error = call("--recipe", file, "--print-recipe")
    assert (status, len(error.splitlines())) == (2, 1)
    assert f"{file}: {message}" in error


def test_fields_that_a_file_leaves_out_have_their_defaults(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text(json.dumps({"name": "mine", "model": "resnet18", "data": "own", "epochs": 3, "augmentation": {"flip": 0}}))
    wanted = Recipe("mine", "resnet18", "own", epochs=3, augmentation=Augmentation(flip=0.0))
    assert collection.find(str(file)) == wanted
    file.write_text(json.dumps({"epochs": 3}))
    status, _, error = call("--recipe", file, "--print-recipe")
    assert status == 2
    assert f"{file}: a recipe must state its name, model, data" in error


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_a_recipe_of_another_task_is_refused(call: Call, task: str, tmp_path: Path) -> None:
    name = f"small.{task}"
    (tmp_path / "r.json").write_text(json.dumps(collection.plain(finetune.RECIPES[name])))
    for recipe in (name, tmp_path / "r.json"):
        status, _, error = call("--recipe", recipe, "--print-recipe")
        assert (status, len(error.splitlines())) == (2, 1)
        assert f"the recipe {recipe} is for {task}, not for classification; use it with trickzoo-finetune … --task {task}" in error


def test_every_recipe_that_is_stored_is_read() -> None:
    """In result files and headers, whole: a field that the schema drops or renames would make them unreadable."""
    results = [json.loads(path.read_text()) for path in ROOT.glob("benchmarks/results/**/*.json")]
    found = [content["recipe"] for content in results if isinstance(content, dict) and isinstance(content.get("recipe"), dict)]
    for path in (*ROOT.glob("weights*/**/*.safetensors"),):
        found.append(json.loads(tensors.read_tensors(path)[1]["trickzoo"])["training"]["recipe"])
    assert len(found) > 30
    for content in found:
        kind = collection.kind_of(content)
        assert collection.from_plain(content, kind).name == content["name"]


def test_recipes_are_listed(call: Call) -> None:
    """Every recipe by its name, or by a pattern whose names exist; that for one's own images first."""
    *rows, last = call()[1].splitlines()[1:]
    listed = [row.split()[0] for row in rows]
    rungs = last.partition("; ")[0].removeprefix("RUNG: ").split(", ")
    assert listed[0] == "own.finetune"
    names = {name.replace("MODEL", model).replace("RUNG", rung) for name in listed for model in scaled.EXAMPLES for rung in rungs}
    assert names >= set(collection.recipes())
    for name in listed:
        assert collection.find(name.replace("MODEL", "resnet50_d").replace("RUNG", rungs[-1]))


def test_fields_are_replaced_by_text() -> None:
    base = collection.find("paper.resnet50_d.mixup")
    changed = collection.override(
        base,
        {"epochs": "20", "milestones": "3,4.5", "jitter": "0", "zero-gamma": "false", "teacher": "None", "mixup": ".4", "area": ".3,1."},
    )
    assert (changed.epochs, changed.milestones, changed.zero_gamma, changed.teacher, changed.mixup) == (20, (3.0, 4.5), False, None, 0.4)
    assert (changed.augmentation.jitter, changed.augmentation.area, changed.augmentation.pca) == (0.0, (0.3, 1.0), 0.1)
    assert changed.lr == base.lr == 0.4
    assert collection.override(base, {"batch_size": "128"}).lr == pytest.approx(0.05)
    assert collection.override(base, {"batch_size": "128", "lr": "0.3"}).lr == 0.3


def test_milestones_are_scaled_only_if_the_training_ends_before_the_first() -> None:
    base = Recipe("r", "resnet50", "x")
    assert (base.epochs, base.milestones) == (120, (30, 60, 90))
    assert collection.override(base, {"epochs": "31"}).milestones == (30, 60, 90)
    assert collection.override(base, {"epochs": "12"}).milestones == (3, 6, 9)
    assert collection.override(base, {"epochs": "12", "milestones": "40"}).milestones == (40,)
    assert collection.override(base, {"epochs": "12", "schedule": "cosine"}).milestones == (30, 60, 90)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": "3"}, 'no field "epoch"; did you mean epochs'),
        ({"epochs": "many"}, "recipe field epochs: Expected `int`"),
        ({"schedule": "linear"}, "recipe field schedule: Invalid enum value 'linear'"),
        ({"schedule": "x - at `$.epochs`"}, r"recipe field schedule: Invalid enum value 'x - at `\$.epochs`'"),
        ({"augmentation": "none"}, 'no field "augmentation"'),
        ({"area": "1"}, "recipe field augmentation.area"),
    ],
)
def test_fields_that_cannot_be_replaced(changes: dict[str, str], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        collection.override(collection.find("paper.resnet50_d.mixup"), changes)


def test_mistakes_end_in_one_line_and_status_2(call: Call, colours: Path, tmp_path: Path) -> None:
    publish.export(trickzoo.create("mobilenet_v1_025", num_classes=7), tmp_path / "teacher.safetensors")
    whole = ("--recipe", COSINE, "--data", colours, "--out", tmp_path / "run", *SMALL, "--workers", 0)
    for tokens, message in (
        (("--resume", tmp_path, "--data", colours), "no option --resume; the same command resumes a training that was stopped"),
        (("--epochs", 3, "--data", colours), "name a recipe with --recipe; trickzoo-train without options lists them"),
        (("--seed", 3), "name a recipe with --recipe; trickzoo-train without options lists them"),
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
