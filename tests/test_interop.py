"""Networks of timm and torchvision become the zoo's and back with equal logits, or are refused with the difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import timm.optim
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from timm.models import group_parameters
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


def test_timms_network_of_grey_images_normalises_them_as_trickzoo_does() -> None:
    own = trickzoo.create("resnet18_d", num_classes=3, in_chans=1).eval()
    own.weights = LoadedWeights("own", Path("own"), preprocessing=Preprocessing(size=64, crop=0.8, std=(0.2, 0.3, 0.4)))
    theirs = trickzoo.to_timm(own)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8))
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs))
    torch.testing.assert_close(transform(image.convert("L")), trickzoo.eval_transform(own)(image))
    torch.testing.assert_close(trickzoo.eval_transform(trickzoo.from_timm(theirs))(image), trickzoo.eval_transform(own)(image))


def test_a_network_of_the_hub_with_arguments_that_its_tensors_do_not_show_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stride, for example: the logits of the network with another one would be wrong."""
    theirs = timm.create_model("resnet18", num_classes=3, in_chans=1, output_stride=8)
    save_file(theirs.state_dict(), file := tmp_path / "model.safetensors")
    config: dict[str, Any] = {"architecture": "resnet18", "model_args": {"in_chans": 1, "output_stride": 8}}
    monkeypatch.setattr("trickzoo.weights.download.fetch_hub_reference", lambda reference: (file, config, "0" * 40))
    with pytest.raises(
        BadCheckpoint, match=r"hf-hub:a/b was made with output_stride=8, which may compute something else; trickzoo.from_timm"
    ):
        trickzoo.create("resnet18", weights="hf-hub:a/b", in_chans=1)
    del config["model_args"]["output_stride"]
    assert trickzoo.create("resnet18", weights="hf-hub:a/b", in_chans=1).num_classes == 3


def test_timm_resizes_to_the_stated_side() -> None:
    for size, resize in ((112, 200), (176, 233), (224, 256), (299, 342)):
        model = trickzoo.create("resnet18")
        model.weights = LoadedWeights("own", Path("own"), preprocessing=Preprocessing(size=size, resize=resize))
        transform = timm.data.create_transform(**timm.data.resolve_data_config(trickzoo.to_timm(model).pretrained_cfg))
        assert transform.transforms[0].size == resize


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "stated", [Preprocessing(size=128, interpolation="bilinear", mean=(0.5, 0.4, 0.3)), Preprocessing(112, resize=200)]
)
def test_timm_prepares_images_for_a_network_of_trickzoo(channels: int, stated: Preprocessing) -> None:
    """The library reads `pretrained_cfg`, and would otherwise prepare images of 224 pixels for every network."""
    model = trickzoo.create("mobilenet_v1_025", in_chans=channels)
    assert model.pretrained_cfg == {}
    model.weights = LoadedWeights("own", Path("own"), preprocessing=stated)
    theirs = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    pixels = np.random.default_rng(0).integers(0, 256, (230, 310, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert("L" if channels == 1 else "RGB")
    torch.testing.assert_close(trickzoo.eval_transform(model)(image), theirs(image), atol=1e-5, rtol=1e-5)


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


def test_other_objects_than_networks_of_the_library_are_refused() -> None:
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


INEXPRESSIBLE = [
    ({"crop_mode": "squash"}, "crop_mode squash"),
    ({"crop_mode": "border"}, "crop_mode border"),
    ({"input_size": (3, 224, 160)}, "inputs of 224×160 pixels"),
    ({"interpolation": "random"}, "interpolation random"),
    ({"crop_pct": 1.25}, "crop_pct 1.25"),
    ({"mean": (0.5, 0.5)}, "a mean of 2 channels"),
    ({"std": (0.5,) * 4}, "a std of 4 channels"),
]


@pytest.mark.parametrize(("change", "words"), INEXPRESSIBLE, ids=str)
def test_a_preprocessing_that_the_zoo_does_not_have_is_left_out(
    change: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = in_timm("mobilenetv1_100h")
    theirs.pretrained_cfg = theirs.pretrained_cfg | change
    model = trickzoo.from_timm(theirs)
    assert model.weights.preprocessing is None and model.weights.classes == "imagenet1k"
    (warning,) = caplog.messages
    assert warning == f"timm mobilenetv1_100h: its preprocessing is left out, because trickzoo does not have {words}"


def test_one_value_of_mean_and_std_is_for_every_channel() -> None:
    theirs = in_timm("resnet18", in_chans=1)
    theirs.pretrained_cfg = theirs.pretrained_cfg | {"mean": (0.4,), "std": [0.2], "crop_mode": None}
    prepared = trickzoo.from_timm(theirs).weights.preprocessing
    assert (prepared.mean, prepared.std) == ((0.4,) * 3, (0.2,) * 3)


@pytest.mark.parametrize("change", [{"input_size": 224}, {"mean": 0.5}, {"mean": ("a", "b", "c")}, {"mean": (5000, 0, 0)}], ids=str)
def test_a_configuration_that_is_not_timms_is_refused(change: dict[str, Any]) -> None:
    theirs = in_timm("mobilenetv1_100h")
    theirs.pretrained_cfg = theirs.pretrained_cfg | change
    with pytest.raises(BadOption, match=r"^timm mobilenetv1_100h: its pretrained_cfg is not in timm's form"):
        trickzoo.from_timm(theirs)


@pytest.mark.parametrize(("name", "options"), [("resnet18d", {}), ("mobilenetv1_100", {}), ("inception_v3", {"aux_logits": True})])
def test_dropout_and_frozen_parameters_are_kept(name: str, options: dict[str, Any]) -> None:
    theirs = in_timm(name, num_classes=3, drop_rate=0.25, **options)
    for _, parameter in list(theirs.named_parameters())[::2]:
        parameter.requires_grad_(False)
    model = trickzoo.from_timm(theirs)
    assert model.head.drop_rate == 0.25
    back = trickzoo.to_timm(model)
    frozen = [[name for name, parameter in each.named_parameters() if not parameter.requires_grad] for each in (theirs, back)]
    assert frozen[0] == frozen[1] and 0 < len(frozen[0]) == sum(not parameter.requires_grad for parameter in model.parameters())
    assert (back.head_drop.p if name == "inception_v3" else back.drop_rate) == 0.25


def test_dropout_and_frozen_parameters_of_torchvision_are_kept() -> None:
    theirs = torchvision.models.inception_v3(weights=None, init_weights=False, aux_logits=False, dropout=0.3).eval()
    randomise_norms(theirs)
    theirs.fc.requires_grad_(False)
    model = trickzoo.from_torchvision(theirs)
    assert model.head.drop_rate == 0.3
    assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == ["head.fc.weight", "head.fc.bias"]


def test_stochastic_depth_is_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    trickzoo.from_timm(in_timm("resnet18", drop_path_rate=0.1, drop_block_rate=0.1))
    assert caplog.messages == ["timm resnet18: left out, because trickzoo does not have it: DropBlock2d, DropPath"]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_networks_whose_logits_are_not_finite_are_refused(value: float) -> None:
    theirs, ours = in_timm("resnet18"), trickzoo.create("resnet18").eval()
    nn.init.constant_(theirs.fc.bias, value)
    nn.init.constant_(ours.head.fc.bias, value)
    words = "gives logits that are not finite; the weights are damaged, or float32 cannot hold their range"
    for convert, model, name in ((trickzoo.from_timm, theirs, "timm resnet18"), (trickzoo.to_timm, ours, "resnet18")):
        with pytest.raises(BadCheckpoint, match=f"^{name} {words}$"):
            convert(model)


def test_the_remedy_for_a_classifier_that_is_a_sequential_works() -> None:
    """The logits stay those of the changed network."""
    x = torch.rand(1, 3, 64, 64)
    for convert, theirs in ((trickzoo.from_torchvision, torchvision.models.resnet18()), (trickzoo.from_timm, in_timm("resnet18"))):
        theirs.eval().fc = nn.Sequential(nn.Dropout(), nn.Linear(512, 3)).eval()
        expected = theirs(x)
        with pytest.raises(BadOption, match=r"its classifier, fc, is a Sequential, .*; set fc to fc\[1\], its only layer with parameters$"):
            convert(theirs)
        theirs.fc = theirs.fc[1]
        torch.testing.assert_close(convert(theirs)(x), expected)
        theirs.fc = several = nn.Sequential(nn.Linear(512, 8), nn.ReLU(), nn.Linear(8, 3))
        expected = theirs(x)
        with pytest.raises(BadOption, match=r"; set fc to an nn.Linear, and after the conversion head.fc to the Sequential$"):
            convert(theirs)
        theirs.fc = nn.Linear(512, 3)
        ours = convert(theirs)
        ours.head.fc = several
        torch.testing.assert_close(ours(x), expected)
    with pytest.raises(BadCheckpoint, match=r"^trickzoo does not have this network; the nearest is"):
        trickzoo.from_torchvision(torchvision.models.squeezenet1_1())  # its classifier is a Sequential, too


def test_a_network_that_was_changed_is_not_converted() -> None:
    head, stem, norms = (trickzoo.create("resnet18", num_classes=3) for _ in range(3))
    head.head.fc = nn.Sequential(nn.Dropout(), nn.Linear(512, 3))
    stem.stem.conv1 = nn.Conv2d(3, 64, 3)
    norms.extra = nn.Linear(2, 2)
    for model, words in (
        (head, r"head.fc.weight, head.fc.bias, head.fc.1.weight, …"),
        (stem, "stem.conv1.weight, stem.conv1.bias"),
        (norms, "extra.weight, extra.bias"),
        (trickzoo.factory.freeze_norms(trickzoo.create("resnet18")), r"stem.bn1.num_batches_tracked, "),
    ):
        with pytest.raises(
            BadOption, match=r"to_timm: this resnet18 was changed after trickzoo.create, and timm does not have the change"
        ) as error:
            trickzoo.to_timm(model)
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("name", "theirs"), [("resnet18_d", "resnet18d"), ("resnet50_b", "resnet50"), ("mobilenet_v1_100", "mobilenetv1_100")]
)
def test_timms_layer_wise_rates_are_those_of_its_own_network(name: str, theirs: str) -> None:
    def rates(model: nn.Module) -> list[tuple[float, float, int]]:
        groups = timm.optim.create_optimizer_v2(model, opt="adamw", lr=1.0, weight_decay=0.1, layer_decay=0.5).param_groups
        return sorted((group["lr_scale"], group["weight_decay"], sum(each.numel() for each in group["params"])) for group in groups)

    assert rates(trickzoo.create(name, num_classes=5)) == rates(timm.create_model(theirs, num_classes=5))


@pytest.mark.parametrize("name", ["inception_v3", "resnet50", "resnet18_c", "resnet50_s", "mobilenet_v1_100h"])
def test_the_last_layer_of_the_layer_wise_rates_is_the_classifier(name: str) -> None:
    model = trickzoo.create(name, device="meta", **({"aux_head": True} if name == "inception_v3" else {}))
    blocks = sum(any(True for _ in block.parameters()) for stage in model.stages for block in stage)  # a max pool has none
    for coarse, layers in ((False, 2 + blocks), (True, 2 + len(model.stages))):
        found = group_parameters(model, model.group_matcher(coarse), reverse=True)
        assert set(found.values()) == set(range(layers))
        assert all((found[key] == layers - 1) == ("head." in key) and (found[key] == 0) == key.startswith("stem.") for key in found)
