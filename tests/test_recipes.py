"""The paper's ladder as data."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

import trickzoo
from trickzoo.catalogue import describe
from trickzoo.errors import BadCheckpoint, BadOption
from trickzoo.recipes import paper
from trickzoo.recipes.collection import AnyRecipe, find, from_dict, override, to_dict
from trickzoo.recipes.finetune import SMALL_BOXES, SMALL_MASKS
from trickzoo.recipes.recipe import Ladder, Recipe
from trickzoo.tricks.linear_scaling import scaled_lr

RECIPES = [rung.recipe for ladder in paper.LADDERS for rung in ladder.rungs]


def changes(a: Recipe, b: Recipe) -> dict[str, object]:
    """What the second recipe replaces in the first."""
    first, second = asdict(a), asdict(b)
    return {key: second[key] for key in second if second[key] != first[key] and key != "name"}


@pytest.mark.parametrize("ladder", [paper.TABLE_4_BS256, paper.TABLE_4_BS1024], ids=lambda ladder: ladder.title)
def test_each_heuristic_replaces_one_thing(ladder: Ladder) -> None:
    recipes = [rung.recipe for rung in ladder.rungs]
    found = [changes(a, b) for a, b in itertools.pairwise(recipes)]
    assert found == [{"warmup_epochs": 5}, {"zero_gamma": True}, {"decay_biases_and_norms": False}, {"precision": "fp16"}]


@pytest.mark.parametrize(
    "ladder", [paper.TABLE_6_RESNET50_D, paper.TABLE_6_INCEPTION_V3, paper.TABLE_6_MOBILENET], ids=lambda ladder: ladder.title
)
def test_refinements_stack_and_branch_after_label_smoothing(ladder: Ladder) -> None:
    first, cosine, smooth, distil, mixup, both = (rung.recipe for rung in ladder.rungs)
    assert changes(first, cosine) == {"schedule": "cosine"}
    assert changes(cosine, smooth) == {"smoothing": 0.1}
    assert changes(smooth, distil) == {"teacher": "resnet152_d.gluon_in1k"}
    assert changes(smooth, mixup) == {"mixup": 0.2, "epochs": 200}
    assert changes(mixup, both) == {"teacher": "resnet152_d.gluon_in1k"}


def test_tables_meet_where_the_paper_says_so() -> None:
    efficient = paper.TABLE_4_BS1024.rungs[-1]
    assert not changes(efficient.recipe, paper.TABLE_5.rungs[0].recipe)
    assert efficient.paper == paper.TABLE_5.rungs[0].paper
    last, first = paper.TABLE_5.rungs[-1], paper.TABLE_6_RESNET50_D.rungs[0]
    assert (last.recipe, last.paper) == (first.recipe, first.paper)
    assert [changes(a.recipe, b.recipe) for a, b in zip(paper.TABLE_5.rungs, paper.TABLE_5.rungs[1:], strict=False)] == [
        {"model": "resnet50_b"},
        {"model": "resnet50_c"},
        {"model": "resnet50_d"},
    ]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_recipe_can_be_built(recipe: Recipe) -> None:
    trickzoo.create(recipe.model, device="meta")
    assert recipe.lr == pytest.approx(scaled_lr(0.1, recipe.batch_size))
    assert recipe.epochs == (200 if recipe.mixup else 120)
    assert recipe.size == (299 if recipe.model == "inception_v3" else 224)
    if recipe.teacher:
        assert describe(recipe.teacher).weights


def test_names_are_unique() -> None:
    named = {recipe.name: recipe for recipe in RECIPES}
    assert all(named[recipe.name] == recipe for recipe in RECIPES)


def test_the_ladder_reads_as_the_papers_tables(capsys: pytest.CaptureFixture[str]) -> None:
    for ladder in paper.LADDERS:
        table = Table("step", "recipe", "top-1", "top-5", title=f"{ladder.title} ({ladder.source})")
        for rung in ladder.rungs:
            assert rung.paper is not None
            table.add_row(rung.title, rung.recipe.name, f"{rung.paper.top1:.2f}", f"{rung.paper.top5:.2f}")
        Console(width=160).print(table)
    text = capsys.readouterr().out
    for part in ("75.17", "76.21", "77.16", "79.29", "94.63", "78.77", "73.28", "56.70"):
        assert part in text


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000, "9" * 5_000, '{"name": ', "null"])
def test_a_file_that_is_not_a_recipe_is_refused_in_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(content)
    with pytest.raises(BadCheckpoint, match=r"recipe\.json (is not a JSON file|holds no recipe)"):
        find(str(tmp_path / "recipe.json"))


@pytest.mark.parametrize("content", [None, 3, [], "name"])
def test_json_without_named_fields_is_refused_as_a_recipe(content: Any) -> None:
    with pytest.raises(BadOption, match="a recipe is an object that names its fields"):
        from_dict(content)


def test_a_field_whose_name_is_not_text_is_unknown() -> None:
    with pytest.raises(BadOption, match=r'no field "augmentation\.3"'):
        from_dict({**to_dict(paper.LADDERS[0].rungs[0].recipe), "augmentation": {3: 1}})


@pytest.mark.parametrize(("recipe", "field"), [(find("own.finetune"), "pretrained"), (SMALL_BOXES, "weights"), (SMALL_MASKS, "weights")])
def test_without_a_default_weight_a_recipe_starts_from_the_only_one(recipe: AnyRecipe, field: str) -> None:
    def start(model: str, **also: str) -> str | None:
        found: str | None = getattr(override(recipe, {"model": model, **also}), field)
        return found

    assert start("mobilenet_v1_025") == "tz_imagenette128"
    assert start("resnet50_d") == "default"  # it has one
    assert start("mobilenet_v1_050") == "default"  # it has no weight, which is an error later
    assert start("mobilenet_v1_025", **{field: "none"}) is None
