"""Networks of timm and torchvision become the zoo's and back with equal logits, or are refused with the difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

import trickzoo
from tests.checkpoints import SMALL, network, randomise_norms
from trickzoo.errors import BadCheckpoint, BadOption
from trickzoo.weights.loaded import LoadedWeights
from trickzoo.weights.record import Preprocessing


def in_timm(name: str, **options: Any) -> nn.Module:
    made = timm.create_model(name, **options).eval()
    randomise_norms(made)
    return made


@torch.inference_mode()
def assert_same(ours: nn.Module, theirs: nn.Module) -> None:
    x = torch.randn(2, next(ours.parameters()).shape[1], 107, 113)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-4, rtol=1e-4)


TIMM = [
    ("resnet18", {"num_classes": 10}, "resnet18"),
    ("resnet18", {"output_stride": 8, "in_chans": 1, "num_classes": 0}, "resnet18"),
    ("resnet18d", {}, "resnet18_d"),
    pytest.param("resnet50s", {}, "resnet50_s", marks=pytest.mark.slow),
    ("mobilenetv1_100h", {}, "mobilenet_v1_100h"),
    ("mobilenetv1_100", {"act_layer": "relu", "num_classes": 3}, "mobilenet_v1_100"),
    ("inception_v3", {}, "inception_v3"),
]


@pytest.mark.parametrize(("name", "options", "ours"), TIMM, ids=str)
def test_a_network_of_timm_and_back(name: str, options: dict[str, Any], ours: str) -> None:
    theirs = in_timm(name, **options)
    model = trickzoo.from_timm(theirs)
    assert model.name == ours
    assert not model.training
    assert_same(model, theirs)
    assert_same(trickzoo.to_timm(model), theirs)


def test_the_description_is_that_of_the_pretrained_configuration() -> None:
    weights = trickzoo.from_timm(in_timm("mobilenetv1_100h")).weights
    assert (weights.name, weights.classes) == ("timm mobilenetv1_100h", "imagenet1k")
    assert (weights.preprocessing.size, weights.preprocessing.mean, weights.preprocessing.crop) == (224, (0.5, 0.5, 0.5), 0.875)
    assert len(weights.digest()) == 64
    assert trickzoo.from_timm(in_timm("resnet18", num_classes=10)).weights.classes is None


def test_timms_network_states_what_the_weights_need() -> None:
    """timm.data resolves the same pixels and the same normalisation, and the way back keeps preprocessing and classes."""
    own = trickzoo.create("mobilenet_v1_100", num_classes=3)
    classes = ("cat", "dog", "cow")
    prepared = Preprocessing(size=96, crop=0.9, interpolation="bicubic", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    own.weights = LoadedWeights("own", Path("own"), "0" * 64, classes=classes, preprocessing=prepared)
    theirs = trickzoo.to_timm(own.eval())
    found = timm.data.resolve_model_data_config(theirs)
    assert (found["input_size"], found["crop_pct"], found["interpolation"]) == ((3, 96, 96), 0.9, "bicubic")
    assert (found["mean"], found["std"]) == (prepared.mean, prepared.std)
    back = trickzoo.from_timm(theirs).weights
    assert (back.classes, back.preprocessing) == (classes, prepared)


def test_timms_network_without_weights_states_none_of_timms() -> None:
    stated = trickzoo.to_timm(trickzoo.create("resnet18_d", num_classes=10)).pretrained_cfg
    assert stated["num_classes"] == 10
    assert not stated.keys() & {"url", "hf_hub_id", "tag", "input_size", "mean"}
    assert trickzoo.from_timm(trickzoo.to_timm(trickzoo.create("resnet18_d"))).weights.preprocessing is None


def test_the_networks_share_no_memory_and_keep_their_modes() -> None:
    theirs = in_timm("mobilenetv1_100")
    theirs.bn1.train()
    model = trickzoo.from_timm(theirs)
    assert theirs.bn1.training
    before = model.stem.conv.weight.clone()
    nn.init.zeros_(theirs.conv_stem.weight)
    assert torch.equal(model.stem.conv.weight, before)


REFUSED = [
    ("resnet18", {"act_layer": "silu"}, BadOption, "has the tensors of resnet18, but its activation functions are SiLU, not ReLU"),
    ("resnet18d", {"output_stride": 16}, BadOption, "has the tensors of resnet18_d, but computes something else"),
    ("resnet18", {"features_only": True}, BadOption, "returns several feature maps, not logits; create it without features_only"),
    (
        "seresnet18",
        {},
        BadCheckpoint,
        "trickzoo does not have this network; the nearest is resnet18, but timm seresnet18 does not fit resnet18: unexpected layer1.0.se.",
    ),
    ("resnet26", {}, BadCheckpoint, "timm resnet26 does not fit resnet18: unexpected layer1.0.conv3.weight, "),
]


@pytest.mark.parametrize(("name", "options", "kind", "words"), REFUSED, ids=str)
def test_another_network_of_timm_is_refused(name: str, options: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as error:
        trickzoo.from_timm(in_timm(name, **options))
    assert words in str(error.value)


def test_what_is_no_network_of_the_library_is_refused() -> None:
    theirs = timm.create_model("resnet18")
    for call, given, words in (
        (
            trickzoo.from_timm,
            "resnet18",
            "from_timm takes a network of timm, not a name; pass timm.create_model(NAME)",
        ),
        (
            trickzoo.from_torchvision,
            theirs.state_dict(),
            "from_torchvision takes a network of torchvision, not a state dict; files of weights",
        ),
        (trickzoo.to_timm, "resnet18", "to_timm takes a network of trickzoo, not a name; pass trickzoo.create(NAME)"),
        (trickzoo.from_timm, nn.DataParallel(theirs), "not DataParallel around it; pass its attribute module"),
        (trickzoo.from_timm, torch.compile(theirs), "not OptimizedModule around it; pass its attribute _orig_mod"),
        (trickzoo.from_timm, network(SMALL), "and this mobilenet_v1_025 is one of trickzoo already"),
        (trickzoo.to_timm, theirs, "to_timm takes a network of trickzoo, not ResNet; from_timm and from_torchvision make one"),
    ):
        with pytest.raises(BadOption) as error:
            call(given)
        assert words in str(error.value)


def test_networks_that_timm_does_not_have_are_refused() -> None:
    for model, words in (
        (network(SMALL), "mobilenet_v1_025 does not exist in timm, whose MobileNets v1 have 1 or 1.25 times the channels"),
        (trickzoo.create("resnet50"), "resnet50 does not exist in timm: its bottlenecks have their stride in the first 1x1"),
        (trickzoo.create("resnet18_d", output_stride=8), "timm's resnet18_d pools in the shortcuts of dilated stages"),
    ):
        with pytest.raises(BadOption, match=words):
            trickzoo.to_timm(model)


def test_networks_that_timm_has_under_another_name() -> None:
    model = trickzoo.create("resnet18_c", num_classes=7).eval()
    randomise_norms(model)
    assert_same(trickzoo.to_timm(model), model)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "inception_v3"])
def test_a_network_of_torchvision(name: str) -> None:
    options = {"transform_input": True, "aux_logits": True, "init_weights": False} if name == "inception_v3" else {}
    theirs = torchvision.models.get_model(name, weights=None, num_classes=5, **options).eval()
    randomise_norms(theirs)
    if name == "inception_v3":
        with pytest.raises(BadOption, match="set its transform_input to False"):
            trickzoo.from_torchvision(theirs)
        theirs.transform_input = False
    model = trickzoo.from_torchvision(theirs)
    assert model.name == {"resnet50": "resnet50_b"}.get(name, name)
    assert model.weights.preprocessing is None
    assert_same(model, theirs)


def test_another_network_of_torchvision_is_refused() -> None:
    with pytest.raises(BadCheckpoint, match="does not fit resnet50_b: wrong shape"):
        trickzoo.from_torchvision(torchvision.models.wide_resnet50_2())
