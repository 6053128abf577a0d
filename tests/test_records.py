"""The trainings that the page of accuracy for training time lists."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from trickzoo.recipes import collection

FILES = sorted((Path(__file__).parents[1] / "benchmarks" / "results" / "records").glob("*/*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_recipe_is_that_of_the_row_but_for_the_number_of_epochs(file: Path) -> None:
    found = json.loads(file.read_text(encoding="utf-8"))
    recipe = collection.from_dict(found["recipe"])
    assert recipe == replace(collection.find(file.parent.name), epochs=recipe.epochs)
    assert f"--recipe {recipe.name} --data imagenette128 " in found["command"]
    assert f"--seed {found['seed']} " in found["command"]
    assert (found["n"], found["n_train"]) == (3925, 9469)
