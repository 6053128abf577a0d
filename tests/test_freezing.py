"""Freezing parts of a backbone."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from torch import nn

import trickzoo
from tests.backbones import FAMILIES, differing, tensors, train_a_step
from trickzoo.errors import BadOption


@pytest.mark.parametrize("name", FAMILIES)
def test_dropout_acts_before_a_new_classifier_of_a_frozen_network(name: str) -> None:
    model = trickzoo.create(name, drop_rate=0.5, device="meta")
    model.freeze(model).reset_head(3).train()
    assert model.head.training and model.head.fc.weight.requires_grad
    assert not any(module.training for part in (model.stem, *model.stages) for module in part.modules())


@pytest.mark.parametrize("name", FAMILIES)
def test_frozen_norms_that_are_converted_for_several_processes_stay_frozen(name: str) -> None:
    model = trickzoo.create(name, device="meta")
    model.freeze(model.stem, model.stages[0])
    nn.SyncBatchNorm.convert_sync_batchnorm(model).train()
    norms = [module for module in model.modules() if isinstance(module, nn.SyncBatchNorm)]
    inside = {module for part in (model.stem, model.stages[0]) for module in part.modules()}
    assert [norm.training for norm in norms] == [norm not in inside for norm in norms]
    model.unfreeze(model.stem)
    assert all(module.training for module in model.stem.modules())
    assert all(parameter.requires_grad for parameter in model.stem.parameters())


@pytest.mark.parametrize("name", FAMILIES)
def test_frozen_parts_stay_bit_identical(name: str) -> None:
    model = trickzoo.create(name, num_classes=5)
    frozen = ("stem.", "stages.0.", "stages.1.")
    assert model.freeze(model.stem, *model.stages[:2]) is model
    before = tensors(model)
    train_a_step(model.train())
    assert not {key for key in differing(before, model) if key.startswith(frozen)}
    assert {key for key in before if not key.startswith(frozen)} == differing(before, model)
    model.eval().unfreeze().train()
    train_a_step(model)
    assert differing(before, model) == before.keys()


def test_a_frozen_network_has_no_trainable_parameters() -> None:
    model = trickzoo.create("mobilenet_v1_025", num_classes=5)
    model.freeze(model).train()
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.modules())
    model.unfreeze().train()
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())


def test_parts_are_unfrozen_one_by_one() -> None:
    model = trickzoo.create("mobilenet_v1_025", num_classes=5)
    model.freeze(model).unfreeze(model.head, model.stages[-1]).train()
    last = f"stages.{len(model.stages) - 1}."
    assert all(each.requires_grad == name.startswith((last, "head.")) for name, each in model.named_parameters())
    norms = {name: each.training for name, each in model.named_modules() if isinstance(each, nn.BatchNorm2d)}
    assert norms == {name: name.startswith(last) for name in norms}
    before = tensors(model)
    train_a_step(model)
    assert differing(before, model) == {key for key in before if key.startswith((last, "head."))}
    assert all(each.requires_grad for each in copy.deepcopy(model).unfreeze().parameters())
    model.unfreeze().train()
    assert all(each.requires_grad for each in model.parameters()) and all(each.training for each in model.modules())


def test_freezing_without_parts_is_refused() -> None:
    """The network would otherwise be trained as a whole, without a word."""
    with pytest.raises(BadOption, match=r"freeze takes the parts to freeze, such as model.stem; model.freeze\(model\) freezes the whole"):
        trickzoo.create("mobilenet_v1_025", device="meta").freeze()


@pytest.mark.parametrize(
    "foreign",
    [lambda: nn.Conv2d(3, 8, 1), lambda: trickzoo.create("resnet18", device="meta").stem, lambda: "stem", lambda: [nn.ReLU()]],
)
def test_only_parts_of_the_network_can_be_frozen(foreign: Callable[[], nn.Module]) -> None:
    model = trickzoo.create("mobilenet_v1_025", device="meta")
    for method in (model.freeze, model.unfreeze):
        with pytest.raises(BadOption, match=r"is not a part of this MobileNetV1; name modules, such as model\.stem or"):
            method(foreign())
