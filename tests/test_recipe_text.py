"""Recipes from files and options, and their listing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Call, caller
from tests.training import COSINE
from trickzoo.cli.train import app
from trickzoo.errors import BadOption
from trickzoo.recipes import collection, finetune, scaled
from trickzoo.recipes.recipe import Augmentation, Recipe
from trickzoo.weights import tensors

ROOT = Path(__file__).parents[1]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo-train`; (exit status, stdout, stderr)."""
    return caller(capsys, app)


@pytest.mark.parametrize("name", sorted(collection.recipes()))
def test_every_recipe_is_printed_and_read_back(call: Call, name: str) -> None:
    status, text, _ = call("--recipe", name, "--print-recipe")
    assert status == 0
    assert collection.from_dict(json.loads(text)) == collection.find(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mixupp": 0.2}, 'a recipe has no field "mixupp"; did you mean mixup'),
        ({"learning_rate": 0.2}, 'a recipe has no field "learning_rate"; did you mean lr?'),
        ({"epoch": 3}, 'a recipe has no field "epoch"; did you mean epochs'),
        ({"epochs": "many"}, 'recipe field epochs must be a whole number, 1 or more, not "many"'),
        ({"augmentation": {"fliip": 0.5}}, 'a recipe has no field "augmentation.fliip"; did you mean flip'),
        ({"augmentation": {"flip": []}}, "recipe field augmentation.flip must be from 0 to 1, not "),
        ({"jitter": 0.0}, 'a recipe has no field "jitter"; did you mean augmentation.jitter'),
        ({"augmentation": None}, "recipe field augmentation: Expected `object`, got `null`"),
    ],
    ids=str,
)
def test_a_file_with_another_field_is_refused(call: Call, change: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text(json.dumps(collection.to_dict(collection.find(COSINE)) | change))
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
    (tmp_path / "r.json").write_text(json.dumps(collection.to_dict(finetune.RECIPES[name])))
    for recipe in (name, tmp_path / "r.json"):
        status, _, error = call("--recipe", recipe, "--print-recipe")
        assert (status, len(error.splitlines())) == (2, 1)
        assert f"the recipe {recipe} is for {task}, not for classification; use it with `trickzoo finetune … --task {task}`" in error


def test_every_recipe_that_is_stored_is_read() -> None:
    """In result files and headers, whole: a field that the schema drops or renames would make them unreadable."""
    results = [json.loads(path.read_text()) for path in ROOT.glob("benchmarks/results/**/*.json")]
    found = [content["recipe"] for content in results if isinstance(content, dict) and isinstance(content.get("recipe"), dict)]
    for path in (*ROOT.glob("weights*/**/*.safetensors"),):
        found.append(json.loads(tensors.read_tensors(path)[1]["trickzoo"])["training"]["recipe"])
    assert len(found) > 30
    for content in found:
        kind = collection.kind_of(content)
        assert collection.from_dict(content, kind).name == content["name"]


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


def test_values_need_not_be_text() -> None:
    changed = collection.override(collection.find("paper.resnet50_d.mixup"), {"epochs": 5, "milestones": (3, 4), "teacher": None})
    assert (changed.epochs, changed.milestones, changed.teacher) == (5, (3, 4), None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.1}, r'no field "learning_rate"; did you mean lr\?'),
        ({"lr0": 0.1}, r"did you mean lr\?"),
        ({"batch": 32}, r"did you mean batch_size\?"),
        ({"wd": 0.0}, r"did you mean weight_decay\?"),
        ({"num-epochs": 3}, r"did you mean epochs\?"),
        ({"epoch": "3"}, 'no field "epoch"; did you mean epochs'),
        ({"epochs": "many"}, 'recipe field epochs must be a whole number, 1 or more, not "many"'),
        ({"schedule": "linear"}, 'recipe field schedule must be step or cosine, not "linear"'),
        ({"schedule": "x - at `$.epochs`"}, r'recipe field schedule must be step or cosine, not "x - at `\$.epochs`"'),
        ({"augmentation": "none"}, 'no field "augmentation"'),
        ({"area": "1"}, "recipe field augmentation.area must be 2 numbers with a comma: above 0 and at most 1, not "),
        ({"epochs": 0.5}, 'recipe field epochs must be a whole number, 1 or more, not "0.5"'),
    ],
)
def test_fields_that_cannot_be_replaced(changes: dict[str, str], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        collection.override(collection.find("paper.resnet50_d.mixup"), changes)
