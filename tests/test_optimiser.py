"""The optimisers of recipes, and parts of a pretrained classifier that are not trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import trickzoo
from tests.training import RECIPE, run, same
from trickzoo.classification.model import freeze, prepare
from trickzoo.data.resident import Resident
from trickzoo.errors import BadCheckpoint, BadOption
from trickzoo.recipes.finetune import SMALL_BOXES, SMALL_MASKS
from trickzoo.training import optimiser

ADAMW = RECIPE.but("test.adamw", optimizer="adamw", lr=0.001)


@pytest.mark.parametrize("recipe", [ADAMW, SMALL_BOXES.but("b", optimizer="adamw"), SMALL_MASKS.but("m", optimizer="adamw")])
def test_the_first_step_of_adamw_is_the_rate_after_decoupled_decay(recipe: Any) -> None:
    recipe = replace(recipe, lr=0.1, weight_decay=0.5)
    decayed, exempt = (nn.Parameter(torch.tensor([2.0, -3.0])) for _ in range(2))
    groups = [{"params": [decayed], "weight_decay": 0.5}, {"params": [exempt], "weight_decay": 0.0}]
    steps = optimiser.build(recipe, groups)
    for parameter in (decayed, exempt):
        parameter.grad = torch.tensor([0.3, -7.0])
    steps.step()
    torch.testing.assert_close(decayed.data, torch.tensor([2.0, -3.0]) * (1 - 0.1 * 0.5) - 0.1 * torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(exempt.data, torch.tensor([2.0, -3.0]) - 0.1 * torch.tensor([1.0, -1.0]))
    assert all(group["betas"] == (recipe.momentum, 0.999) for group in steps.param_groups)


def test_sgd_is_nesterovs_for_classifiers_only() -> None:
    parameters = [nn.Parameter(torch.ones(1))]
    for nesterov in (True, False):
        (group,) = optimiser.build(RECIPE, parameters, nesterov=nesterov).param_groups
        assert (group["nesterov"], group["momentum"], group["weight_decay"]) == (nesterov, RECIPE.momentum, RECIPE.weight_decay)


def test_a_training_by_adamw_resumes_bit_for_bit(resident: Resident, val: Resident, tmp_path: Path) -> None:
    straight = run(resident, tmp_path / "straight", ADAMW, val)
    run(resident, tmp_path / "stopped", ADAMW, val, save_every=1, stop_after=5)
    assert same(run(resident, tmp_path / "stopped", ADAMW, val), straight)
    assert not same(run(resident, tmp_path / "sgd", RECIPE.but("test.adamw", lr=0.001), val), straight)
    with pytest.raises(BadCheckpoint, match="optimizer is adamw there, sgd here"):
        run(resident, tmp_path / "stopped", RECIPE.but("test.adamw", lr=0.001), val)


@pytest.mark.parametrize(("parts", "frozen"), [("backbone", 5), ("stages:2", 2), ("stages:1", 1), (None, None)])
def test_frozen_parts_keep_their_weights_and_statistics(parts: str | None, frozen: int | None, resident: Resident, tmp_path: Path) -> None:
    torch.manual_seed(3)
    start = trickzoo.create("mobilenet_v1_025", num_classes=4)
    trickzoo.export(start, tmp_path / "start.safetensors")
    recipe = RECIPE.but("test.frozen", pretrained=str(tmp_path / "start.safetensors"), freeze=parts, epochs=1)
    found = run(resident, tmp_path / "run", recipe)
    stages = len(start.stages)
    kept = [] if frozen is None else ["stem.", *(f"stages.{i}." for i in range(min(frozen, stages)))]
    before = start.state_dict()
    changed = {name for name, tensor in found.items() if not torch.equal(tensor, before[name])}
    assert not {name for name in changed if name.startswith(tuple(kept or ["none"]))}
    last = f"stages.{stages - 1}."
    assert any(name.startswith(last) for name in changed) == (parts != "backbone")
    assert any("head" in name or "classifier" in name for name in changed)


def test_what_cannot_be_frozen(resident: Resident) -> None:
    with pytest.raises(BadOption, match="freeze would keep random weights; name the weights to start from with pretrained"):
        prepare(RECIPE.but("x", freeze="backbone"), 4, 0)
    with pytest.raises(BadOption, match='freeze must be backbone, or stages:N with a number from 1, not "stages:0"'):
        RECIPE.but("x", freeze="stages:0")
    with pytest.raises(BadOption, match=r"mobilenet_v1_025 has \d stages; freeze stages:\d at most, or backbone"):
        freeze(trickzoo.create("mobilenet_v1_025"), "stages:9")
