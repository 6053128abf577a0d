"""The interface of backbones, tested with every model of the zoo, and then the features of single families."""

from __future__ import annotations

import copy
from math import ceil, sqrt

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import trickzoo
from tests.backbones import FAMILIES, differing, empty, input_for, shape_of, tensors, train_a_step
from trickzoo import registry
from trickzoo.backbone import Backbone

MODELS = trickzoo.list_models()
DILATED = [name for name in MODELS if 8 in registry.find(name).output_strides and not name.startswith(("resnet101", "resnet152"))]
EVERY_BLOCK = [*FAMILIES, "resnet50"]
"""The networks of `FAMILIES`, and one with the bottleneck, whose original has biases."""

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


def test_a_head_of_ones_own_is_used_and_its_outputs_are_counted() -> None:
    model = trickzoo.create("resnet18_d", device="meta")
    model.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))  # type: ignore[assignment]
    assert (model.eval().to_empty(device="meta")(empty(32)).shape, model.num_classes) == ((1, 10), 10)


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_outputs_of_a_quantised_classifier_are_counted() -> None:
    model = torch.ao.quantization.quantize_dynamic(trickzoo.create("mobilenet_v1_025", num_classes=7), {nn.Linear})
    assert (model.num_classes, model.in_chans) == (model.eval()(torch.rand(1, 3, 64, 64)).shape[1], 3) == (7, 3)


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


@pytest.mark.parametrize("name", FAMILIES)
def test_the_parts_are_printed_in_the_order_of_the_forward_pass(name: str) -> None:
    assert [part for part, _ in shape_of(name).named_children()] == ["stem", "pool", "stages", "head"]


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet18_c", "resnet18_d", "resnet50_s", "mobilenet_v1_025", "mobilenet_v1_100h", "inception_v3"]
)
def test_in_chans_sets_the_input_channels(name: str) -> None:
    """One network with each stem."""
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
