"""FCN on every backbone: what it computes beside torchvision's own, what it takes, what stays frozen, what is exported."""

from __future__ import annotations

import contextlib
import copy
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import nn
from torch.export import Dim
from torch.nn import functional as F
from torchvision.models.segmentation import fcn_resnet50

import trickzoo
from tests.backbones import shapes_only
from tests.checkpoints import randomise_norms
from trickzoo import registry
from trickzoo.errors import BadOption
from trickzoo.recipes.finetune import RECIPES
from trickzoo.segmentation import fcn, task
from trickzoo.segmentation.model import Logits, Segmenter
from trickzoo.weights import convert

SOME = ["resnet18_d", "mobilenet_v1_025", "inception_v3"]
IGNORED = 255


def small(name: str, **options: Any) -> Segmenter:
    stride = 32 if name == "inception_v3" else 8
    return fcn(name, **{"num_classes": 5, "output_stride": stride} | options)


def train_a_step(model: Segmenter) -> None:
    """Everything that takes a gradient moves, decay included."""
    x, masks = torch.randn(2, 3, 65, 47), torch.randint(0, 5, (2, 65, 47))
    masks[0] = 0  # an image of background only
    masks[1, :9] = IGNORED
    main, aux = model(x)
    loss = F.cross_entropy(main, masks, ignore_index=IGNORED)
    if aux is not None:
        loss = loss + 0.5 * F.cross_entropy(aux, masks, ignore_index=IGNORED)
    assert loss.isfinite()
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=0.1)
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.add_(1e-3)
    optimiser.step()


def check_trains_and_evaluates(name: str) -> None:
    model = small(name)
    assert model.training
    train_a_step(model)
    assert not [key for key, parameter in model.named_parameters() if parameter.grad is None]
    model.eval()
    with torch.no_grad():
        for height, width in ((65, 47), (64, 96), (33, 80)):
            grey = torch.randn(1, 1, height, width).expand(-1, 3, -1, -1)
            logits = model(grey)
            assert logits.shape == (1, 5, height, width)
            assert logits.isfinite().all()


@pytest.mark.parametrize("name", SOME)
def test_it_trains_and_evaluates(name: str) -> None:
    check_trains_and_evaluates(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", trickzoo.list_models())
def test_every_backbone_trains_and_evaluates(name: str) -> None:
    check_trains_and_evaluates(name)


def test_it_is_torchvisions_given_its_weights() -> None:
    theirs, ours = fcn_resnet50(weights=None, weights_backbone=None, aux_loss=True, num_classes=21), fcn("resnet50_b")
    randomise_norms(theirs)
    keys = {f"backbone.{own}": f"backbone.{key}" for key, own in _backbone_keys(ours).items()}
    for own, key in (("head", "classifier"), ("aux_head", "aux_classifier")):
        keys |= {f"{own}.{name}": f"{key}.{name}" for name in ours.get_submodule(own).state_dict()}
    state = theirs.state_dict()
    ours.load_state_dict({own: state.pop(key) for own, key in keys.items()})
    assert not state

    x = torch.randn(2, 3, 65, 81)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x)["out"])
        for model in (ours, theirs):
            for module in model.train().modules():
                if isinstance(module, nn.Dropout):
                    module.eval()
        found, expected = ours(x), theirs(x)
        torch.testing.assert_close(found.main, expected["out"])
        torch.testing.assert_close(found.aux, expected["aux"])


def _backbone_keys(model: Segmenter) -> dict[str, str]:
    return convert.key_map(registry.find("resnet50_b"), "torchvision", model.backbone.state_dict())


def test_it_is_the_formula() -> None:
    model = small("mobilenet_v1_025", output_stride=16).eval()
    randomise_norms(model)
    conv, norm, _, dropout, last = model.head
    x = torch.randn(1, 3, 49, 70)
    with torch.no_grad():
        features = model.backbone.forward_features(x)
        assert features.shape == (1, 256, 4, 5)
        y = F.conv2d(features, conv.weight, padding=1)
        y = (y - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + 1e-5).sqrt()
        y = (y * norm.weight[:, None, None] + norm.bias[:, None, None]).clamp(min=0)
        y = F.conv2d(y, last.weight, last.bias)
        torch.testing.assert_close(model(x), F.interpolate(y, (49, 70), mode="bilinear", align_corners=False))
    assert (conv.out_channels, conv.bias, dropout.p) == (64, None, 0.1)


@pytest.mark.parametrize(("name", "channels"), [("resnet18_d", (512, 256)), ("resnet50_d", (2048, 1024)), ("mobilenet_v1_025", (256, 128))])
def test_heads_stand_on_the_last_two_stages(name: str, channels: tuple[int, int]) -> None:
    model = small(name)
    assert model.aux_head is not None
    assert (model.head[0].in_channels, model.aux_head[0].in_channels) == channels
    assert [info.stride for info in model.trunk.feature_info[-2:]] == [8, 8]


def test_public_name() -> None:
    assert trickzoo.segmentation.fcn is fcn


def test_classes_of_a_layer_that_was_replaced_are_counted(tmp_path: Path) -> None:
    model = small("mobilenet_v1_025", aux=False)
    model.head[-1] = nn.Conv2d(model.head[-1].in_channels, 3, 1)
    assert model.num_classes == model.eval()(torch.rand(1, 3, 64, 64)).shape[1] == 3
    trickzoo.segmentation.save(model, tmp_path / "a.safetensors", classes=("a", "b", "c"))
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(trickzoo.segmentation.load(tmp_path / "a.safetensors")(x), model(x))
    model.head = nn.Identity()
    assert model.num_classes == 0


def test_without_auxiliary_head() -> None:
    model = small("mobilenet_v1_025", aux=False)
    main, aux = model(torch.randn(2, 3, 33, 33))
    assert aux is None
    assert main.shape == (2, 5, 33, 33)
    assert isinstance(model(torch.randn(2, 3, 33, 33)), Logits)
    assert not [key for key in model.state_dict() if key.startswith("aux")]


@pytest.mark.parametrize("norms", ["live", "frozen"])
@pytest.mark.parametrize(
    ("name", "trainable", "frozen"),
    [
        ("resnet18_d", 2, ("stem.", "stages.0.", "stages.1.")),
        ("mobilenet_v1_025", 0, ("stem.", "stages.")),
        ("resnet18_d", "all", ()),
    ],
)
def test_frozen_parts_stay_bit_identical(name: str, trainable: Any, frozen: tuple[str, ...], norms: Any) -> None:
    model = small(name, trainable_stages=trainable, norms=norms)
    randomise_norms(model)
    before = copy.deepcopy(model.state_dict())
    for _ in range(2):
        train_a_step(model.eval().train())
    changed = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    kept = tuple("backbone." + part for part in frozen)
    expected = {key for key in before if not key.startswith(kept)}
    if norms == "frozen":
        expected -= {f"backbone.{key}" for key, _ in model.backbone.named_buffers()}
    assert changed == expected


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("inception_v3", {"output_stride": 8}, "Inception V3: output_stride must be 32, not 8"),
        ("resnet18", {"output_stride": 4}, "output_stride must be 8 or 16 or 32, not 4"),
        ("resnet18", {"num_classes": 3.0}, "resnet18: num_classes must be 1 or more, not 3.0"),
        ("resnet18", {"num_classes": 0}, "resnet18: num_classes must be 1 or more, not 0"),
        ("resnet18", {"num_classes": 257}, "resnet18: num_classes must be 256 or less, not 257: a mask has 8 bits for each pixel"),
        ("resnet18", {"drop_rate": 2}, "resnet18: drop_rate cannot be 2"),
        ("resnet18", {"trainable_stages": -1}, 'trainable_stages must be 0 to 4, or "all" for the stem too, not -1'),
    ],
)
def test_mistakes_are_one_line(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadOption, match=words):
        fcn(name, **options)


@pytest.mark.parametrize(
    "name", ["mobilenet_v1_025", *(pytest.param(each, marks=pytest.mark.slow) for each in ("resnet18_d", "inception_v3"))]
)
def test_export(name: str, tmp_path: Path) -> None:
    """One graph for every batch and size, in torch.export and in ONNX."""
    model, x = small(name).eval(), torch.randn(2, 3, 65, 47)
    randomise_norms(model)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO},))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own dependencies
        onnx = torch.onnx.export(program, verbose=False)
    onnx.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for size in ((2, 3, 65, 47), (1, 3, 64, 96), (3, 3, 50, 71)):
        x = torch.randn(size)
        with torch.no_grad():
            expected = model(x)
            torch.testing.assert_close(program.module()(x), expected)
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", trickzoo.list_models())
def test_every_backbone_makes_an_fcn_as_it_is(name: str) -> None:
    with torch.device("meta"), torch.no_grad():
        model = shapes_only(fcn(name)).eval()
        assert model(torch.empty(1, 3, 64, 96)).shape == (1, 21, 64, 96)
    assert model.trunk.feature_info[-1].stride == registry.find(name).output_strides[0]


@pytest.mark.parametrize("name", SOME)
def test_output_strides_of_a_network_are_those_that_its_builder_accepts(name: str) -> None:
    accepted = []
    for stride in registry.OUTPUT_STRIDES:
        with contextlib.suppress(BadOption):
            trickzoo.create(name, num_classes=0, output_stride=stride, device="meta")
            accepted.append(stride)
    assert registry.find(name).output_strides == tuple(accepted)


@pytest.mark.parametrize("name", ["paper.segmentation.voc", "small.segmentation", "shapes.segmentation"])
def test_every_recipe_takes_inception(name: str, caplog: pytest.LogCaptureFixture) -> None:
    recipe = replace(RECIPES[name], model="inception_v3", weights=None)
    with torch.device("meta"):
        model = task.build(recipe, 3)
    assert model.trunk.feature_info[-1].stride == 32
    words = f"{name}: inception_v3 has no output stride {recipe.output_stride}; 32 is used"
    assert [record.getMessage() for record in caplog.records] == [words]
    with pytest.raises(BadOption, match="output_stride must be 8 or 16 or 32, not 4"):
        task.build(replace(recipe, model="resnet18", output_stride=4), 3)
