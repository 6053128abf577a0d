"""Faster R-CNN on every backbone: what it computes beside torchvision's own, what it takes, what stays frozen, what is exported."""

from __future__ import annotations

import copy
import itertools
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import detection as reference
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d, roi_align
from torchvision.transforms.v2 import functional as TF
from torchvision.tv_tensors import BoundingBoxes

import trickzoo
from tests.backbones import shapes_only
from tests.checkpoints import randomise_norms
from trickzoo import registry
from trickzoo.detection import faster_rcnn
from trickzoo.detection.model import FasterRCNN
from trickzoo.detection.parts import pyramid
from trickzoo.errors import BadOption
from trickzoo.factory import create_trunk, freeze_norms
from trickzoo.weights import convert
from trickzoo.weights.loaded import LoadedWeights
from trickzoo.weights.record import Preprocessing

SMALL: dict[str, Any] = {
    "num_classes": 4,
    "min_size": 64,
    "max_size": 96,
    "fpn_channels": 32,
    "representation_size": 64,
    "rpn_post_nms_top_n_train": 30,
    "rpn_post_nms_top_n_test": 20,
    "box_batch_size_per_image": 16,
}
EVERY = [(name, "fpn") for name in trickzoo.list_models()] + [(name, "c4") for name in trickzoo.list_models("resnet*")]
SOME = [("resnet18_d", "fpn"), ("resnet18_d", "c4"), ("mobilenet_v1_025", "fpn"), ("inception_v3", "fpn")]


def small(name: str, neck: str = "fpn", **options: Any) -> FasterRCNN:
    return faster_rcnn(name, neck=neck, **SMALL | options)  # type: ignore[arg-type]


def target(*boxes: tuple[float, float, float, float]) -> dict[str, Tensor]:
    return {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.arange(len(boxes)) % 3 + 1}


def batch() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Images of odd and different sizes, one grey, one without objects."""
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 255, (61, 47), dtype=np.uint8)).convert("RGB")
    images = [TF.to_dtype(TF.pil_to_tensor(grey), torch.float32, scale=True), torch.rand(3, 40, 93), torch.rand(3, 33, 33)]
    return images, [target((3, 4, 30, 51), (20, 8, 46, 33)), target(), target((0, 0, 33, 33))]


def train_a_step(model: FasterRCNN) -> dict[str, Tensor]:
    """Everything that takes a gradient moves, decay included."""
    losses = model(*batch())
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=0.1)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.add_(1e-3)
    optimiser.step()
    return losses


def check_detections(detections: list[dict[str, Tensor]], images: list[Tensor], classes: int = 4) -> None:
    assert len(detections) == len(images)
    for found, image in zip(detections, images, strict=True):
        height, width = image.shape[-2:]
        n = len(found["boxes"])
        assert found["boxes"].shape == (n, 4) and found["labels"].shape == found["scores"].shape == (n,)
        assert found["boxes"].isfinite().all()
        assert (found["boxes"] >= 0).all()
        assert (found["boxes"] <= torch.tensor([width, height, width, height]) + 1e-3).all()
        assert set(found["labels"].tolist()) <= set(range(1, classes))


def check_trains_and_evaluates(name: str, neck: str) -> None:
    model = small(name, neck)
    assert model.training
    losses = train_a_step(model)
    assert sorted(losses) == ["loss_box_reg", "loss_classifier", "loss_objectness", "loss_rpn_box_reg"]
    assert all(loss.isfinite() for loss in losses.values())
    assert not [key for key, parameter in model.named_parameters() if parameter.grad is None and not key.startswith("backbone.body.head")]
    model.eval()
    images, targets = batch()
    with torch.no_grad():
        check_detections(model(images), images)
        assert all(loss.isfinite() for loss in model.losses(images, targets).values())
        assert all(loss.isfinite() for loss in model.losses(images[1:2], targets[1:2]).values())


@pytest.mark.parametrize(("name", "neck"), SOME)
def test_it_trains_and_evaluates(name: str, neck: str) -> None:
    check_trains_and_evaluates(name, neck)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], "the targets have labels from 0 to 2; they go from 1 to 3, because 0 is the background"),
        ([1, 4], "the targets have labels from 1 to 4; they go from 1 to 3"),
        ([1], "target 1 has 2 boxes and 1 label"),
        (None, "there are 3 images and 1 target"),
    ],
)
def test_targets_that_do_not_fit_are_refused(labels: list[int] | None, message: str) -> None:
    """Labels that begin at 0 would train the first class as background."""
    model, (images, targets) = small("mobilenet_v1_025"), batch()
    targets[1] = target((1, 2, 9, 9), (3, 3, 20, 30))
    if labels is not None:
        targets[1]["labels"] = torch.tensor(labels)
    for call in (model, model.losses):
        with pytest.raises(BadOption, match=message):
            call(images, targets if labels is not None else targets[:1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": torch.zeros(2, 5)}, r"target 1: boxes must be \(n, 4\) numbers, not the shape \(2, 5\)"),
        (
            {"boxes": torch.tensor([[1, 2, 9, 9], [3, 3, 3, 30.0]])},
            r"target 1: box 1 is \(3, 3, 3, 30\); corners x0, y0, x1, y1 must be finite",
        ),
        ({"boxes": torch.tensor([[1, 2, 9, 9], [3, 3, float("nan"), 30.0]])}, r"target 1: box 1 is \(3, 3, nan, 30\)"),
        ({"boxes": torch.tensor([[1, 2, 9, float("inf")], [3, 3, 9, 30.0]])}, r"target 1: box 0 is \(1, 2, 9, inf\)"),
        (
            {"boxes": BoundingBoxes([[1, 2, 9, 9], [3, 3, 9, 9]], format="XYWH", canvas_size=(64, 64))},
            r"target 1: boxes must be corners x0, y0, x1, y1, and these are XYWH; torchvision's v2.ConvertBoundingBoxFormat",
        ),
        ({"boxes": np.zeros((2, 4))}, "boxes and labels must be tensors, and its boxes are a ndarray"),
        ({"labels": [1, 2]}, "must be tensors, and its labels are a list"),
        ({"labels": torch.tensor([1.0, 2.0])}, r"labels must be \(n,\) whole numbers, not the shape \(2,\) of torch.float32"),
        ({"labels": torch.tensor([[1], [2]])}, r"labels must be \(n,\) whole numbers, not the shape \(2, 1\)"),
        ({"boxes": None}, "target 1 has no boxes; a target is a dict of boxes and labels"),
        ({"labels": None}, "target 1 has no labels"),
    ],
)
def test_wrong_targets_are_refused(changes: dict[str, Any], message: str) -> None:
    model, (images, targets) = small("mobilenet_v1_025"), batch()
    changed = target((1, 2, 9, 9), (3, 3, 20, 30)) | changes
    targets[1] = {key: value for key, value in changed.items() if value is not None}
    with pytest.raises(BadOption, match=message):
        model(images, targets)


def test_images_in_0_to_255_are_refused_in_every_mode() -> None:
    detector, targets = small("mobilenet_v1_025"), [target((3, 4, 30, 51))] * 2
    images = [torch.rand(3, 64, 64), 255 * torch.rand(3, 64, 80)]
    wrong = r"a detector takes images in 0…1, and the largest value is 25\d\.\d*; divide pixels in 0…255 by 255"
    for call in (lambda: detector.train()(images, targets), lambda: detector.eval()(images), lambda: detector.losses(images, targets)):
        with pytest.raises(BadOption, match=wrong):
            call()
    assert len(detector.eval()([images[0], images[1] / 255])) == 2


@pytest.mark.parametrize("image", [np.zeros((64, 64, 3), np.uint8), Image.new("RGB", (64, 64))])
def test_images_that_are_no_tensors_are_refused(image: Any) -> None:
    with pytest.raises(BadOption, match=rf"takes \(3, H, W\) tensors in 0…1, not {type(image).__name__}; torchvision.*to_tensor makes one"):
        small("mobilenet_v1_025").eval()([torch.rand(3, 64, 64), image])


def test_boxes_as_fractions_of_the_image_are_refused_and_a_small_object_in_the_corner_is_not() -> None:
    model, (images, _) = small("mobilenet_v1_025"), batch()
    fractions = [target(), target((0.1, 0.2, 0.5, 0.7)), target((0.0, 0.0, 1.0, 1.0))]
    for call in (model, model.losses):
        with pytest.raises(BadOption, match="every box of the targets lies within the first pixel of its image; boxes are in pixels"):
            call(images, fractions)
    assert all(loss.isfinite() for loss in model(images, [*fractions[:2], target()]).values())


def test_whole_numbers_of_any_type_and_empty_tensors_are_targets() -> None:
    model, (images, targets), plain = small("mobilenet_v1_025"), batch(), batch()[1]
    targets[0]["labels"] = targets[0]["labels"].to(torch.uint8)
    targets[1] = {"boxes": torch.tensor([]), "labels": torch.tensor([])}
    targets[2] = {"boxes": torch.tensor([[0, 0, 33, 33]], dtype=torch.int32), "labels": torch.tensor([1], dtype=torch.int32)}
    given = [dict(each) for each in targets]
    torch.manual_seed(0)
    losses = model(images, targets)
    assert all(each[key] is before[key] for each, before in zip(targets, given, strict=True) for key in before)
    torch.manual_seed(0)
    assert losses == model(images, plain)


def test_a_detector_without_targets_raises_an_error_that_names_them() -> None:
    model = small("mobilenet_v1_025")
    for images, targets, message in (
        ([], [], "the list of images is empty"),
        (batch()[0], None, "in training mode a detector needs targets"),
    ):
        with pytest.raises(BadOption, match=message):
            model(images, targets)
    with pytest.raises(BadOption, match="the list of images is empty"):
        model.eval()([])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "neck"), EVERY)
def test_every_backbone_trains_and_evaluates(name: str, neck: str) -> None:
    check_trains_and_evaluates(name, neck)


# ---------------------------------------------------------------------------------------------------------------------
# What it computes


def upstream_key(key: str) -> str:
    """Our key of a resnet50_b detector → torchvision's."""
    prefix = "backbone.body."
    if not key.startswith(prefix):
        return key
    own = key.removeprefix(prefix)
    theirs = {ours: name for name, ours in convert.key_map(registry.find("resnet50_b"), "torchvision", [own]).items()}
    return prefix + theirs[own]


def test_fpn_is_torchvisions_given_its_weights() -> None:
    settings = {"min_size": 64, "max_size": 128, "rpn_post_nms_top_n_test": 100, "box_batch_size_per_image": 64, "box_score_thresh": 0.0}
    theirs = reference.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=21, **settings)
    ours = faster_rcnn("resnet50_b", **settings)
    randomise_norms(theirs)
    state = theirs.state_dict()
    ours.load_state_dict({key: state.pop(upstream_key(key)) for key in ours.state_dict()})
    assert not state

    images = [torch.rand(3, 64, 128), torch.rand(3, 128, 64)]  # padded to multiples of 64, where torchvision's strides are exact
    targets = [target((10, 20, 90, 60), (50, 5, 120, 50)), target((0, 0, 64, 64))]
    with torch.no_grad():
        for expected, found in zip(theirs.eval()(images), ours.eval()(images), strict=True):
            assert len(found["boxes"]) == 100
            for key in ("boxes", "labels", "scores"):
                torch.testing.assert_close(found[key], expected[key])
        torch.manual_seed(1)
        expected_losses = theirs.train()(images, targets)
        torch.manual_seed(1)
        torch.testing.assert_close(ours.train()(images, targets), expected_losses)


def test_c4_is_the_networks_own_stages() -> None:
    model, trunk = small("resnet18_d", "c4").eval(), trickzoo.create("resnet18_d", num_classes=0).eval()
    randomise_norms(model)
    stage = "roi_heads.box_head.stage."
    state = {key.removeprefix("backbone.body."): t for key, t in model.state_dict().items() if key.startswith("backbone.body.")}
    state |= {"stages.3." + key.removeprefix(stage): t for key, t in model.state_dict().items() if key.startswith(stage)}
    trunk.load_state_dict(state)

    x, boxes, heads = torch.randn(1, 3, 96, 64), torch.tensor([[0.0, 0, 64, 96], [10, 20, 40, 30]]), model.roi_heads
    with torch.no_grad():
        maps = model.backbone(x)
        features = trunk.forward_pyramid(x)["stages.2"]
        torch.testing.assert_close(maps["stages.2"], features)
        pooled = trunk.stages[3](roi_align(features, [boxes], 14, 1 / 16, 2)).mean((2, 3))
        logits, deltas = heads.box_predictor(heads.box_head(heads.box_roi_pool(maps, [boxes], [(90, 60)])))
        torch.testing.assert_close(logits, heads.box_predictor.cls_score(pooled))
        assert deltas.shape == (2, 16)


@pytest.mark.parametrize(
    ("name", "neck", "levels"),
    [
        ("resnet18_d", "fpn", {4: (32,), 8: (64,), 16: (128,), 32: (256,), 64: (512,)}),
        ("mobilenet_v1_025", "fpn", {4: (32,), 8: (64,), 16: (128,), 32: (256,), 64: (512,)}),
        ("inception_v3", "fpn", {4: (32,), 8: (64,), 16: (128,), 32: (256,), 64: (512,)}),
        ("resnet18_d", "c4", {16: (32, 64, 128, 256, 512)}),
    ],
)
def test_anchors_stand_at_the_strides_of_the_maps(name: str, neck: str, levels: dict[int, tuple[int, ...]]) -> None:
    """At 96 × 160 the map of stride 64 has 2 × 3 cells, from which torchvision would infer strides of 48 and 53."""
    model = small(name, neck).eval()
    with torch.no_grad():
        maps = list(model.backbone(torch.zeros(1, 3, 96, 160)).values())
    assert [m.shape[-2:] for m in maps] == [(ceil(96 / stride), ceil(160 / stride)) for stride in levels]
    assert model.roi_heads.box_roi_pool.scales == [1 / stride for stride in levels if stride < 64]
    (anchors,) = model.rpn.anchor_generator(ImageList(torch.zeros(1, 3, 96, 160), [(90, 150)]), maps)
    expected = []
    for stride, sizes in levels.items():
        for y, x in itertools.product(range(ceil(96 / stride)), range(ceil(160 / stride))):
            for ratio, size in itertools.product((0.5, 1, 2), sizes):
                width, height = size / sqrt(ratio) / 2, size * sqrt(ratio) / 2
                expected.append([x * stride - width, y * stride - height, x * stride + width, y * stride + height])
    torch.testing.assert_close(anchors, torch.tensor(expected), atol=0.51, rtol=0)  # torchvision rounds to pixels


def test_a_tiny_first_image_does_not_set_the_scales() -> None:
    model = small("mobilenet_v1_025", min_size=33, max_size=33).eval()
    with torch.no_grad():
        model([torch.rand(3, 33, 33)])
    assert model.roi_heads.box_roi_pool.scales == [1 / 4, 1 / 8, 1 / 16, 1 / 32]


def test_boxes_keep_full_precision_under_autocast() -> None:
    model, (images, targets) = small("resnet18_d", norms="frozen", box_score_thresh=0.0), batch()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(images, targets)
        assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
        proposals: list[Tensor] = []
        handle = model.rpn.register_forward_hook(lambda *call: proposals.extend(call[-1][0]))
        detections = model.eval()(images)
        handle.remove()
    assert {t.dtype for t in [*proposals, *(found["boxes"] for found in detections)]} == {torch.float32}
    assert any(not torch.equal(t, t.bfloat16().float()) for t in proposals)


def test_images_are_normalised_as_the_weights_want_it(tmp_path: Path) -> None:
    source = trickzoo.create("resnet18_d", num_classes=5)
    randomise_norms(source)
    source.weights = LoadedWeights("mine", tmp_path, preprocessing=Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)))
    trickzoo.export(source, tmp_path / "mine.safetensors")
    model = small("resnet18_d", weights=tmp_path / "mine.safetensors")
    assert (model.transform.image_mean, model.transform.image_std) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    assert model.transform.min_size == (64,) and model.transform.max_size == 96
    own = source.state_dict()
    for key, tensor in model.backbone.body.state_dict().items():
        assert torch.equal(tensor, own[key])
    assert not [m for m in model.backbone.body.modules() if isinstance(m, nn.BatchNorm2d)], "given weights keep their statistics"
    trained = {key.split(".")[2] + key.split(".")[3] for key, p in model.named_parameters() if "body" in key and p.requires_grad}
    assert trained == {"stages1", "stages2", "stages3"}
    assert small("resnet18_d").transform.image_mean == [0.485, 0.456, 0.406]


# ---------------------------------------------------------------------------------------------------------------------
# Losses in evaluation


def test_losses_in_evaluation_are_those_of_training_with_nothing_moving() -> None:
    model = small("resnet18_d", norms="frozen")
    model.transform.eval()  # in training it draws one of the sizes, even from one
    images, targets = batch()
    torch.manual_seed(1)
    expected = model(images, targets)
    model.eval()
    torch.manual_seed(1)
    with torch.no_grad():
        found = model.losses(images, targets)
    torch.testing.assert_close(found, {key: loss.detach() for key, loss in expected.items()})


@pytest.mark.parametrize("training", [True, False])
def test_losses_do_not_change_the_mode_of_any_module(training: bool) -> None:
    model, (images, targets) = small("mobilenet_v1_025").train(training), batch()
    before, modes = copy.deepcopy(model.state_dict()), {name: module.training for name, module in model.named_modules()}
    with torch.no_grad():
        model.losses(images, targets)
        with pytest.raises(BadOption, match="target 0 has no boxes"):
            model.losses(images, [{}, {}, {}])
    assert {name: module.training for name, module in model.named_modules()} == modes
    moved = [key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])]
    assert bool(moved) == training, "in training BatchNorm counts what it sees, in evaluation it does not"


# ---------------------------------------------------------------------------------------------------------------------
# Frozen parts


def test_frozen_norms_compute_the_same_with_the_same_eps() -> None:
    model = trickzoo.create("inception_v3", num_classes=0).eval()
    randomise_norms(model)
    x = torch.randn(1, 3, 80, 96)
    with torch.no_grad():
        expected = model.forward_features(x)
        assert freeze_norms(model) is model
        torch.testing.assert_close(model.train().forward_features(x), expected)
    frozen = [module for module in model.modules() if isinstance(module, FrozenBatchNorm2d)]
    assert len(frozen) == 94
    assert {module.eps for module in frozen} == {0.001}
    assert not [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("norms", ["live", "frozen"])
@pytest.mark.parametrize(
    ("name", "neck", "trainable", "frozen"),
    [
        ("resnet18_d", "fpn", 3, ("stem.", "stages.0.")),
        ("resnet18_d", "c4", 0, ("stem.", "stages.")),
        ("mobilenet_v1_025", "fpn", 3, ("stem.", "stages.0.", "stages.1.")),
        ("mobilenet_v1_025", "fpn", 5, ("stem.",)),
        ("mobilenet_v1_025", "fpn", "all", ()),
    ],
)
def test_frozen_parts_stay_bit_identical(name: str, neck: str, trainable: Any, frozen: tuple[str, ...], norms: str) -> None:
    model = small(name, neck, trainable_stages=trainable, norms=norms)
    randomise_norms(model)
    before = copy.deepcopy(model.state_dict())
    for _ in range(2):
        train_a_step(model.eval().train())
    changed = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    kept = tuple("backbone.body." + part for part in frozen)
    if trainable == 0:
        kept += ("roi_heads.box_head.",)
    expected = {key for key in before if not key.startswith(kept)}
    if norms == "frozen":
        expected = {key for key, _ in model.named_parameters() if not key.startswith(kept)}
        assert not [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert changed == expected


@pytest.mark.parametrize("neck", ["fpn", "c4"])
def test_a_detector_that_was_built_without_memory_detects_the_same(neck: Any) -> None:
    model = small("resnet18_d", neck, min_size=96, max_size=160).eval()
    with torch.device("meta"):
        other = small("resnet18_d", neck, min_size=96, max_size=160).eval()
    assert all(tensor.is_meta for tensor in other.state_dict().values())
    other.to_empty(device="cpu").load_state_dict(model.state_dict())
    images = [torch.rand(3, 96, 128)]
    with torch.inference_mode():
        expected, actual = model(images)[0], other(images)[0]
    assert len(expected["boxes"])
    for key, value in expected.items():
        assert torch.equal(actual[key], value)


def test_copies_are_independent() -> None:
    model = small("resnet18_d", "c4")
    before, twin = copy.deepcopy(model.state_dict()), copy.deepcopy(model)
    train_a_step(twin)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


# ---------------------------------------------------------------------------------------------------------------------
# Export


@pytest.mark.parametrize("name", trickzoo.list_models())
def test_every_backbone_has_the_levels_of_a_feature_pyramid(name: str) -> None:
    with torch.device("meta"), torch.no_grad():
        features = shapes_only(pyramid(create_trunk(name, None), 16))
        maps = list(features(torch.empty(1, 3, 64, 128)).values())
    assert features.strides == (4, 8, 16, 32, 64)
    assert [tuple(m.shape) for m in maps] == [(1, 16, 64 // stride, 128 // stride) for stride in features.strides]
