"""The interface of backbones, tested with every model of the zoo, and then the features of single families."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from math import ceil, sqrt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import trickzoo
from trickzoo import registry
from trickzoo.backbone import Backbone
from trickzoo.errors import BadCheckpoint, BadOption

MODELS = trickzoo.list_models()
DILATED = [name for name in MODELS if registry.find(name).family != "inception_v3" and not name.startswith(("resnet101", "resnet152"))]
FAMILIES = ["resnet18_d", "mobilenet_v1_025", "inception_v3"]
"""A small network of each family. The ResNet is of type D, with the deep stem and pooling in its shortcuts."""
EVERY_BLOCK = [*FAMILIES, "resnet50"]
"""The same with the bottleneck, whose original has biases."""

PUBLISHED = {  # parameters and multiply-adds as published
    "resnet18": (11_689_512, "1.814 G"),
    "resnet18_c": (11_708_744, "2.054 G"),
    "resnet18_d": (11_708_744, "2.054 G"),
    "resnet34": (21_797_672, "3.664 G"),
    "resnet34_c": (21_816_904, "3.903 G"),
    "resnet34_d": (21_816_904, "3.903 G"),
    "resnet50": (25_575_912, "3.858 G"),
    "resnet50_b": (25_557_032, "4.089 G"),
    "resnet50_c": (25_576_264, "4.329 G"),
    "resnet50_d": (25_576_264, "4.329 G"),
    "resnet101": (44_589_800, "7.570 G"),
    "resnet101_b": (44_549_160, "7.801 G"),
    "resnet101_c": (44_568_392, "8.041 G"),
    "resnet101_d": (44_568_392, "8.041 G"),
    "resnet152": (60_252_648, "11.282 G"),
    "resnet152_b": (60_192_808, "11.514 G"),
    "resnet152_c": (60_212_040, "11.753 G"),
    "resnet152_d": (60_212_040, "11.753 G"),
    "resnet50_s": (25_680_808, "5.444 G"),
    "resnet101_s": (44_672_936, "9.157 G"),
    "resnet152_s": (60_316_584, "12.869 G"),
    "mobilenet_v1_125": (6_270_840, "879.5 M"),
    "mobilenet_v1_100h": (5_282_600, "620.1 M"),
    "mobilenet_v1_100": (4_231_976, "568.7 M"),
    "mobilenet_v1_075": (2_585_560, "325.4 M"),
    "mobilenet_v1_050": (1_331_592, "149.5 M"),
    "mobilenet_v1_025": (470_072, "41.0 M"),
    "inception_v3": (23_834_568, "5.713 G"),
}


@functools.cache
def shape_of(name: str, **options: Any) -> Backbone:
    """Return the network on the meta device, which computes shapes only. It is shared between tests, which must not change it."""
    return trickzoo.create(name, device="meta", **options).eval()


def empty(height: int, width: int | None = None) -> Tensor:
    return torch.empty(1, 3, height, width or height, device="meta")


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of every parameter and buffer."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def differing(before: dict[str, Tensor], module: nn.Module) -> set[str]:
    """Return the names of the tensors that are no longer bit-identical."""
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


def input_for(name: str, batch: int = 2, channels: int = 3) -> Tensor:
    """Return a small random batch. The layers of Inception without padding need at least 75 pixels."""
    return torch.randn(batch, channels, 75, 80) if name == "inception_v3" else torch.randn(batch, channels, 33, 40)


@pytest.mark.parametrize("name", MODELS)
class TestEveryModel:
    def test_size_is_the_published_one(self, name: str) -> None:
        model, architecture = shape_of(name), registry.find(name)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            logits = model(empty(architecture.size))
        assert logits.shape == (1, 1000)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        macs = counter.get_total_flops() / 2
        assert (parameters, macs) == (architecture.parameters, architecture.macs)
        published, printed = PUBLISHED[name]
        scaled = f"{macs / 1e9:.3f} G" if printed.endswith("G") else f"{macs / 1e6:.1f} M"
        assert (parameters, scaled) == (published, printed)

    @pytest.mark.parametrize("size", [(224, 224), (299, 299), (300, 300), (333, 500)], ids=str)
    def test_strides_are_exact_and_channels_true(self, name: str, size: tuple[int, int]) -> None:
        model = shape_of(name)
        with torch.no_grad():
            maps = model.forward_pyramid(empty(*size))
        assert {key: tuple(m.shape[1:]) for key, m in maps.items()} == {
            info.name: (info.channels, ceil(size[0] / info.stride), ceil(size[1] / info.stride)) for info in model.feature_info
        }
        assert list(maps) == [info.name for info in model.feature_info]
        assert [info.stride for info in model.feature_info][-4:] == [4, 8, 16, 32]
        assert model.num_features == model.feature_info[-1].channels


def test_a_new_depth_needs_no_plainer_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._RESNETS, (200, "c"), (1, 1))
    monkeypatch.setitem(registry._RESNETS, (200, "d"), (1, 1))
    (found,) = [each for each in registry._architectures() if each.name == "resnet200_d"]
    assert found.tweaked == ("resnet200_c", "resnet200_d")


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", DILATED)
def test_output_stride_dilates_and_changes_no_weight(name: str, output_stride: int) -> None:
    plain, model = shape_of(name), shape_of(name, output_stride=output_stride)
    with torch.no_grad():
        maps = model.forward_pyramid(empty(97, 65))
    for info, usual in zip(model.feature_info, plain.feature_info, strict=True):
        assert info.stride == min(usual.stride, output_stride)
        assert maps[info.name].shape[1:] == (usual.channels, ceil(97 / info.stride), ceil(65 / info.stride))
    assert {key: t.shape for key, t in model.state_dict().items()} == {key: t.shape for key, t in plain.state_dict().items()}


@pytest.mark.parametrize("name", ["resnet18_d", "resnet50_d"])
def test_a_dilated_stage_of_resnet_d_has_no_pooling(name: str) -> None:
    """The official implementation does not pool there; timm pools with stride 1."""

    def pools(output_stride: int) -> list[bool]:
        stages = shape_of(name, output_stride=output_stride).stages
        return [any(isinstance(module, nn.AvgPool2d) for module in stage.modules()) for stage in stages]

    assert (pools(32), pools(16), pools(8)) == ([False, True, True, True], [False, True, True, False], [False, True, False, False])


@pytest.mark.parametrize(
    ("name", "output_stride", "words"),
    [
        ("inception_v3", 16, "Inception V3: output_stride must be 32"),
        ("resnet50_d", 4, "8 or 16 or 32"),
        ("mobilenet_v1_025", 64, "8 or 16"),
    ],
)
def test_output_stride_that_does_not_exist(name: str, output_stride: int, words: str) -> None:
    with pytest.raises(BadOption, match=words):
        trickzoo.create(name, output_stride=output_stride)


@pytest.mark.parametrize("name", EVERY_BLOCK)
class TestEveryFamilyAndBlock:
    """Tests that compute real values, for one network of each family and the original bottleneck, which has biases."""

    def test_forward_is_its_parts(self, name: str) -> None:
        model, x = trickzoo.create(name), input_for(name)
        assert model.training
        model.eval()
        with torch.inference_mode():
            logits, features, maps = model(x), model.forward_features(x), model.forward_pyramid(x)
            torch.testing.assert_close(model.forward_head(features), logits)
            torch.testing.assert_close(model.forward_head(features, pre_logits=True), features.mean((2, 3)))
        assert logits.shape == (2, 1000)
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()
        assert logits.std() > 0
        if name != "inception_v3":
            torch.testing.assert_close(maps[model.feature_info[-1].name], features)

    def test_creation_is_reproducible(self, name: str) -> None:
        def seeded(seed: int) -> Backbone:
            torch.manual_seed(seed)
            return trickzoo.create(name)

        first = tensors(seeded(1))
        assert not differing(first, seeded(1))
        assert differing(first, seeded(2)) == {key for key, t in first.items() if t.ndim > 1} | {"head.fc.bias"}

    def test_initial_values(self, name: str) -> None:
        """Every tensor is initialised. In deterministic mode torch fills new memory with NaN, which would remain otherwise."""
        torch.use_deterministic_algorithms(True)
        try:
            model = trickzoo.create(name)
        finally:
            torch.use_deterministic_algorithms(False)
        for tensor in model.state_dict().values():
            assert not tensor.is_meta
            assert tensor.isfinite().all()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor, value in zip([*module.parameters(), *module.buffers()], (1, 0, 0, 1, 0), strict=True):
                    assert (tensor == value).all()
            elif isinstance(module, nn.Conv2d):
                if module.weight.numel() > 20_000:
                    fan_out = module.out_channels * module.weight[0, 0].numel()
                    assert module.weight.std().item() == pytest.approx(sqrt(2 / fan_out), rel=0.05)
                    assert abs(module.weight.mean().item()) < 0.05 * sqrt(2 / fan_out)
                assert module.bias is None or not module.bias.any()
        bound = 1 / sqrt(model.num_features)
        assert 0.99 * bound < model.head.fc.weight.abs().max() <= bound


@pytest.mark.parametrize("name", FAMILIES)
class TestEveryFamily:
    @pytest.mark.parametrize("num_classes", [7, 0])
    @pytest.mark.parametrize(("device", "dtype"), [("cpu", torch.bfloat16), ("meta", torch.float32)])
    def test_reset_head_keeps_device_and_dtype(self, name: str, num_classes: int, device: str, dtype: torch.dtype) -> None:
        model = trickzoo.create(name, device=device, dtype=dtype, num_classes=11)
        before = {key for key in model.state_dict() if not key.startswith("head.")}
        assert model.reset_head(num_classes) is model
        assert {(t.device.type, t.dtype) for t in model.parameters()} == {(device, dtype)}
        assert {key for key in model.state_dict() if not key.startswith("head.")} == before
        x = input_for(name).to(device, dtype)
        assert model.eval()(x).shape == (2, num_classes or model.num_features)
        assert model.num_classes == num_classes

    @pytest.mark.parametrize("in_chans", [1, 3, 4])
    def test_input_channels(self, name: str, in_chans: int) -> None:
        model = trickzoo.create(name, in_chans=in_chans, num_classes=0, device="meta").eval()
        assert next(model.parameters()).shape[1] == in_chans
        assert model(input_for(name, channels=in_chans).to("meta")).shape == (2, model.num_features)

    def test_dropout_acts_in_training_only(self, name: str) -> None:
        model = trickzoo.create(name, num_classes=5, drop_rate=0.5)
        features = torch.rand(2, model.num_features, 2, 2)
        assert not torch.equal(model.forward_head(features), model.forward_head(features))
        assert torch.equal(model.forward_head(features, pre_logits=True), features.mean((2, 3)))
        model.eval()
        assert torch.equal(model.forward_head(features), model.head.fc(features.mean((2, 3))))

    def test_dropout_acts_before_a_new_classifier_of_a_frozen_network(self, name: str) -> None:
        model = trickzoo.create(name, drop_rate=0.5, device="meta")
        model.freeze(model).reset_head(3).train()
        assert model.head.training and model.head.fc.weight.requires_grad
        assert not any(module.training for part in (model.stem, *model.stages) for module in part.modules())

    def test_frozen_norms_that_are_converted_for_several_processes_stay_frozen(self, name: str) -> None:
        model = trickzoo.create(name, device="meta")
        model.freeze(model.stem, model.stages[0])
        nn.SyncBatchNorm.convert_sync_batchnorm(model).train()
        norms = [module for module in model.modules() if isinstance(module, nn.SyncBatchNorm)]
        inside = {module for part in (model.stem, model.stages[0]) for module in part.modules()}
        assert [norm.training for norm in norms] == [norm not in inside for norm in norms]
        model.unfreeze(model.stem)
        assert all(module.training for module in model.stem.modules())
        assert all(parameter.requires_grad for parameter in model.stem.parameters())

    def test_frozen_parts_stay_bit_identical(self, name: str) -> None:
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

    def test_copies_are_independent(self, name: str) -> None:
        model = trickzoo.create(name, num_classes=5)
        model.freeze(model.stem)
        before, twin = tensors(model), copy.deepcopy(model)
        assert (twin.name, twin.feature_info, twin.options) == (model.name, model.feature_info, model.options)
        twin.unfreeze().train()
        train_a_step(twin)
        assert differing(before, twin) == before.keys()
        assert not differing(before, model)
        train_a_step(model.train())
        assert not {key for key in differing(before, model) if key.startswith("stem.")}

    def test_state_dict_round_trip(self, name: str) -> None:
        model, other = (trickzoo.create(name, num_classes=5) for _ in range(2))
        train_a_step(model)
        assert differing(tensors(model), other) == model.state_dict().keys()
        other.load_state_dict(model.state_dict())
        x = input_for(name)
        with torch.inference_mode():
            assert torch.equal(model.eval()(x), other.eval()(x))
        assert all(key.startswith(("stem.", "stages.", "head.")) for key in model.state_dict())

    def test_export(self, name: str) -> None:
        model, x = Everything(trickzoo.create(name, num_classes=5).eval()), input_for(name)
        program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        more = input_for(name, batch=3)
        with torch.no_grad():
            torch.testing.assert_close(program.module()(more), model(more))


class Everything(nn.Module):
    """A module that returns logits and pyramid from `forward`, the only method that the exporter calls."""

    def __init__(self, model: Backbone) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.model(x), self.model.forward_pyramid(x)


def train_a_step(model: Backbone) -> None:
    """Make a training step with weight decay, which changes every parameter with a gradient and every live BatchNorm statistic."""
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=0.1)
    F.cross_entropy(model(input_for(model.name)), torch.tensor([0, 1])).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.add_(1e-3)
    optimiser.step()


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


@pytest.mark.parametrize(
    "foreign",
    [lambda: nn.Conv2d(3, 8, 1), lambda: trickzoo.create("resnet18", device="meta").stem, lambda: "stem", lambda: [nn.ReLU()]],
)
def test_only_parts_of_the_network_can_be_frozen(foreign: Callable[[], nn.Module]) -> None:
    model = trickzoo.create("mobilenet_v1_025", device="meta")
    for method in (model.freeze, model.unfreeze):
        with pytest.raises(BadOption, match=r"is not a part of this MobileNetV1; name modules, such as model\.stem or"):
            method(foreign())


@pytest.mark.parametrize("options", [{"num_classes": -1}, {"in_chans": 0}, {"drop_rate": 1.5}])
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(BadOption, match=f"resnet18: {next(iter(options))} cannot be"):
        trickzoo.create("resnet18", **options)
    with pytest.raises(BadOption, match="num_classes must be 0 or more"):
        shape_of("resnet18").reset_head(-1)


@pytest.mark.parametrize(
    "options", [{"num_classes": "10"}, {"num_classes": 10.0}, {"num_classes": True}, {"in_chans": "1"}, {"drop_rate": "0.1"}]
)
def test_options_of_another_type(options: dict[str, Any]) -> None:
    (option, value), *_ = options.items()
    with pytest.raises(BadOption, match=f"resnet18: {option} cannot be {value!r}"):
        trickzoo.create("resnet18", **options)


def test_a_part_under_the_name_of_another_library_is_refused() -> None:
    """The network would not use it, and would for example go on with its 1000 outputs in place of the ten of a new classifier."""
    model = trickzoo.create("resnet18_d", device="meta")
    for name, place in (
        ("fc", r"this part is head.fc, which reset_head\(n\) replaces"),
        ("classifier", "this part is head.fc"),
        ("conv1", "this part is in stem"),
        ("maxpool", "this part is pool"),
        ("layer4", r"this part is stages\[3\]"),
    ):
        with pytest.raises(BadOption, match=f"a ResNet of trickzoo has no {name}; {place}"):
            setattr(model, name, nn.Linear(512, 10))
    with pytest.raises(BadOption, match="head averages the last feature map before it classifies"):
        model.head = nn.Linear(512, 10)  # type: ignore[assignment]
    assert not hasattr(model, "fc")


def test_a_head_of_ones_own_is_used_and_its_outputs_are_counted() -> None:
    model = trickzoo.create("resnet18_d", device="meta")
    model.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))  # type: ignore[assignment]
    assert (model.eval().to_empty(device="meta")(empty(32)).shape, model.num_classes) == ((1, 10), 10)


@pytest.mark.parametrize("strict", [True, False])
def test_tensors_under_other_names_are_refused(strict: bool) -> None:
    """Without `strict`, PyTorch would load nothing without an error."""
    model = trickzoo.create("mobilenet_v1_025", num_classes=3)
    before = tensors(model)
    for prefix in ("module.", "backbone."):
        with pytest.raises(BadCheckpoint, match=r"none of these tensors has a name of mobilenet_v1_025 .*weights=FILE"):
            model.load_state_dict({prefix + name: tensor + 1 for name, tensor in before.items()}, strict=strict)
    assert not differing(before, model)
    model.load_state_dict({name: before[name] + 1 for name in ("head.fc.weight",)}, strict=False)
    assert differing(before, model) == {"head.fc.weight"}


@pytest.mark.parametrize("around", [nn.DataParallel, torch.compile, lambda model: SimpleNamespace(network=model)])
def test_a_network_inside_another_object_is_refused_with_the_attribute_that_holds_it(around: Any, tmp_path: Path) -> None:
    given = around(trickzoo.create("mobilenet_v1_025", num_classes=3))
    wanted = next(name for name in ("module", "_orig_mod", "network") if hasattr(given, name))
    for function in (
        trickzoo.class_names,
        trickzoo.eval_transform,
        lambda model: trickzoo.train_transform("own.finetune", model),
        lambda model: trickzoo.export(model, tmp_path / "a.safetensors"),
        trickzoo.deploy,
    ):
        with pytest.raises(BadOption, match=f"not {type(given).__name__} around it; pass its attribute {wanted}"):
            function(given)


@pytest.mark.parametrize(
    ("name", "option", "words"),
    [
        ("mobilenet_v1_100", {"activaton": "relu6"}, 'mobilenet_v1_100 has no option "activaton"; did you mean activation?'),
        ("mobilenet_v1_100", {"activation": "gelu"}, 'MobileNet v1: activation must be "relu" or "relu6", not "gelu"'),
        ("inception_v3", {"transform_input": True}, 'inception_v3 has no option "transform_input"; it has aux_head'),
        ("resnet50_d", {"depth": 18}, 'resnet50_d has no option "depth"'),
        ("resnet50_d", {"num_class": 10}, 'resnet50_d has no option "num_class"; did you mean num_classes, in_chans?'),
        ("resnet50_d", {"features_only": True}, 'resnet50_d has no option "features_only"; forward_pyramid(x) returns the feature maps'),
        (
            "resnet50_d",
            {"drop_path_rate": 0.1},
            'resnet50_d has no option "drop_path_rate"; it has no stochastic depth, only dropout before the classifier, drop_rate',
        ),
        (
            "resnet50_d",
            {"norm_layer": nn.BatchNorm2d},
            'resnet50_d has no option "norm_layer"; its normalisation is BatchNorm, which freeze(…) can freeze',
        ),
        (
            "resnet50_d",
            {"replace_stride_with_dilation": (0, 1, 1)},
            'resnet50_d has no option "replace_stride_with_dilation"; output_stride=16 or 8 dilates the last stages',
        ),
        ("resnet50_d", {"checkpoint_path": "x.pth"}, 'resnet50_d has no option "checkpoint_path"; name the file with weights'),
    ],
)
def test_options_of_a_family(name: str, option: dict[str, Any], words: str) -> None:
    with pytest.raises(BadOption) as error:
        trickzoo.create(name, **option)
    assert str(error.value) == words


@pytest.mark.parametrize("alias", ["resnet18_b", "resnet34_b"])
def test_alias_is_the_same_network(alias: str) -> None:
    assert trickzoo.create(alias, device="meta").name == alias.removesuffix("_b")


def test_tweaks_b_c_and_d_change_the_layers_that_the_paper_names() -> None:
    """Each tweak is checked in the layer that it changes, so that no two letters can be the same network by mistake."""

    def down(name: str) -> nn.Module:
        return shape_of(name).stages[1][0]

    strides = {name: (down(name).conv1.stride[0], down(name).conv2.stride[0]) for name in ("resnet50", "resnet50_b", "resnet50_d")}
    assert strides == {"resnet50": (2, 1), "resnet50_b": (1, 2), "resnet50_d": (1, 2)}
    pool = down("resnet50_d").shortcut[0]
    assert (pool.kernel_size, pool.stride, pool.ceil_mode, pool.count_include_pad) == (2, 2, True, False)
    assert [m.stride[0] for m in shape_of("resnet50_c").stem if isinstance(m, nn.Conv2d)] == [2, 1, 1]
    assert [m.out_channels for m in shape_of("resnet50_c").stem if isinstance(m, nn.Conv2d)] == [32, 32, 64]
    assert len(down("resnet50_c").shortcut) == 2


# ---------------------------------------------------------------------------------------------------------------------
# Inception V3


def test_inception_computes_on_the_published_grids() -> None:
    model, sides = shape_of("inception_v3"), []
    hooks = [part.register_forward_hook(lambda *call: sides.append(call[-1].shape[-1])) for part in (model.stem, *model.stages)]
    with torch.no_grad():
        features = model.forward_features(empty(299))
    for hook in hooks:
        hook.remove()
    assert sides == [147, 71, 35, 17, 8]
    assert features.shape == (1, 2048, 8, 8)


def test_pyramid_of_inception_pads_and_uses_the_same_weights() -> None:
    model, x = trickzoo.create("inception_v3", num_classes=5).eval(), torch.randn(1, 3, 96, 96)
    first = model.stem[0]
    torch.testing.assert_close(first(x, exact=True), first(F.pad(x, (1, 1, 1, 1))))
    sum(m.sum() for m in model.forward_pyramid(x).values()).backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {"head.fc.weight", "head.fc.bias"}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", FAMILIES)
def test_torchscript_is_refused_in_one_line(name: str) -> None:
    """A backbone inside another network is refused too."""
    model = shape_of(name)
    for network in (model, nn.Sequential(model)):
        with pytest.raises(BadOption, match=f"^{name} cannot be scripted, because torch has deprecated TorchScript; use torch.export"):
            torch.jit.script(network)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_parts_are_printed_in_the_order_of_the_forward_pass(name: str) -> None:
    assert [part for part, _ in shape_of(name).named_children()] == ["stem", "pool", "stages", "head"]


@pytest.mark.parametrize("name", MODELS)
def test_in_chans_sets_the_input_channels(name: str) -> None:
    assert [shape_of(name, in_chans=n).in_chans for n in (1, 3, 4)] == [1, 3, 4]


def test_auxiliary_head_of_inception() -> None:
    model = trickzoo.create("inception_v3", aux_head=True, num_classes=6, device="meta").eval()
    assert [tuple(logits.shape) for logits in model.forward_with_aux(empty(299))] == [(1, 6), (1, 6)]
    assert model(empty(299)).shape == (1, 6)
    assert [tuple(logits.shape) for logits in model.reset_head(4).forward_with_aux(empty(299))] == [(1, 4), (1, 4)]
    assert model.reset_head(0).aux_head is None
    assert trickzoo.create("inception_v3", aux_head=True, num_classes=0, device="meta").aux_head is None
    with pytest.raises(RuntimeError, match="create it with aux_head=True"):
        shape_of("inception_v3").forward_with_aux(empty(299))


def test_images_that_are_too_small_for_inception_are_refused() -> None:
    model = trickzoo.create("inception_v3").eval()
    assert model(torch.zeros(1, 3, 75, 80)).shape == (1, 1000)
    with pytest.raises(BadOption, match="inception_v3 needs images of 75 × 75 pixels or more, not 80 × 74"):
        model(torch.zeros(1, 3, 74, 80))
