"""Detectors and segmenters that a user trains in a loop of their own, and writes to files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

import trickzoo
from tests.annotated import refused
from tests.commands import call
from tests.images import jpeg
from trickzoo.cli import zoo
from trickzoo.detection.model import COCO, FasterRCNN, faster_rcnn
from trickzoo.errors import BadOption
from trickzoo.segmentation.model import Segmenter, segmenter

SMALL: dict[str, Any] = {"num_classes": 4, "min_size": 64, "max_size": 96, "fpn_channels": 8, "representation_size": 16}
CLASSES = ("cat", "dog", "horse")


def detector(name: str = "mobilenet_v1_025", **settings: Any) -> FasterRCNN:
    """A detector after a training step, whose boxes and BatchNorms are those of no other."""
    torch.manual_seed(0)
    model = faster_rcnn(name, **{**SMALL, **settings})
    optimiser = torch.optim.SGD(model.parameters(), 0.01)
    target = {"boxes": torch.tensor([[4.0, 4.0, 40.0, 40.0]]), "labels": torch.tensor([1])}
    torch.stack([*model([torch.rand(3, 64, 80)], [target]).values()]).sum().backward()
    optimiser.step()
    return model.eval()


def segmenter_of(name: str = "mobilenet_v1_025", **settings: Any) -> Segmenter:
    torch.manual_seed(0)
    model = segmenter(name, num_classes=3, **settings)
    model(torch.rand(2, 3, 64, 64))  # changes the statistics of BatchNorm
    return model.eval()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mobilenet_v1_025", {}),
        ("mobilenet_v1_025", {"anchor_sizes": (8, 16, 32, 64, 96), "options": {"activation": "relu6"}}),
        ("resnet18_d", {"neck": "c4", "anchor_sizes": (16, 32)}),
        ("mobilenet_v1_025", {**COCO, "min_size": 64, "max_size": 64}),
        ("resnet18_d", {"norms": "frozen", "trainable_stages": 2}),
        ("resnet18_d", {"neck": "c4", "norms": "live", "trainable_stages": 1}),
        ("resnet18_d", {"neck": "c4", "norms": "live", "trainable_stages": 2}),
    ],
)
def test_a_detector_detects_the_same_after_its_file_is_loaded(tmp_path: Path, name: str, settings: dict[str, Any]) -> None:
    own, file = detector(name, **settings), tmp_path / "detector.safetensors"
    trickzoo.detection.save(own, file, classes=CLASSES)
    network = trickzoo.load(file)
    assert (network.task, network.classes) == ("detection", CLASSES)
    images = [torch.rand(3, 50, 70), torch.rand(3, 120, 60)]
    with torch.no_grad():
        for found, expected in zip(network.network(images), own(images), strict=True):
            assert len(expected["boxes"]) > 0
            assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mobilenet_v1_025", {"output_stride": 16}),
        ("resnet18_d", {"aux": False, "align_corners": True}),
        ("resnet18_d", {"norms": "frozen"}),
        ("mobilenet_v1_025", {"trainable_stages": 2}),
    ],
)
def test_a_segmenter_computes_the_same_after_its_file_is_loaded(tmp_path: Path, name: str, settings: dict[str, Any]) -> None:
    own, file = segmenter_of(name, **settings), tmp_path / "segmenter.safetensors"
    trickzoo.segmentation.save(own, file, classes=["sky", "road", "car"], short=48)
    network = trickzoo.load(file)
    assert (network.task, network.classes, network.network.short) == ("segmentation", ("sky", "road", "car"), 48)
    image = torch.rand(1, 3, 61, 47)
    with torch.no_grad():
        assert torch.equal(network.network(image), own(image))
    assert own.short == 0, "saving changes nothing in the network"


def test_commands_take_the_files(tmp_path: Path) -> None:
    jpeg(tmp_path / "image.jpg", 0)
    trickzoo.detection.save(detector(), tmp_path / "detector.safetensors", classes=CLASSES)
    trickzoo.segmentation.save(segmenter_of(), tmp_path / "segmenter.safetensors", classes=CLASSES)
    for task in ("detector", "segmenter"):
        out = tmp_path / f"drawn-{task}"
        assert call(zoo, "predict", tmp_path / "image.jpg", "--model", tmp_path / f"{task}.safetensors", "--out", out) == 0
        assert Image.open(out / "image.png").mode == "RGB"


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_saving_and_loading_draw_no_random_numbers(task: str, tmp_path: Path) -> None:
    """A training run continues in the same way whether or not its network is saved in between."""
    model = faster_rcnn("mobilenet_v1_025", num_classes=3) if task == "detection" else segmenter("mobilenet_v1_025")
    module = {"detection": trickzoo.detection, "segmentation": trickzoo.segmentation}[task]
    before = torch.get_rng_state()
    module.save(model, tmp_path / "a.safetensors", classes=[str(i) for i in range(2 if task == "detection" else 21)])
    trickzoo.load(tmp_path / "a.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_of_a_file_keeps_its_classes_and_its_sides(tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    trickzoo.detection.save(detector(), first, classes=CLASSES)
    trickzoo.detection.save(trickzoo.detection.load(first), second)
    assert trickzoo.detection.load(second).classes == CLASSES
    assert trickzoo.detection.load(second).sides == (64, 96)
    trickzoo.segmentation.save(segmenter_of(), first, classes=CLASSES, short=32, overwrite=True)
    trickzoo.segmentation.save(trickzoo.segmentation.load(first), second, overwrite=True)
    assert (trickzoo.segmentation.load(second).classes, trickzoo.segmentation.load(second).short) == (CLASSES, 32)


def test_the_last_of_several_short_sides_is_that_of_the_evaluation(tmp_path: Path) -> None:
    """In training, torchvision draws one of them for each image."""
    own, images = detector(min_size=(48, 96), max_size=160).eval(), [torch.rand(3, 60, 70)]
    trickzoo.detection.save(own, tmp_path / "a.safetensors", classes=CLASSES)
    loaded = trickzoo.detection.load(tmp_path / "a.safetensors")
    assert own.sides == loaded.sides == (96, 160)
    assert torch.equal(own(images)[0]["boxes"], loaded(images)[0]["boxes"])


def test_a_predictor_of_torchvision_in_place_of_ours_is_written(tmp_path: Path) -> None:
    own = detector()
    own.roi_heads.box_predictor = FastRCNNPredictor(16, 3)
    trickzoo.detection.save(own, tmp_path / "two.safetensors", classes=CLASSES[:2])
    assert trickzoo.detection.load(tmp_path / "two.safetensors").classes == CLASSES[:2]


def _with_threshold() -> FasterRCNN:
    own = detector()
    own.roi_heads.score_thresh = 0.4
    return own


def _with(path: str, value: Any) -> Callable[[], FasterRCNN]:
    """Return what makes a detector with another value of an attribute."""

    def make() -> FasterRCNN:
        own, (part, name) = detector(), path.rsplit(".", 1)
        setattr(own.get_submodule(part), name, value(own))
        return own

    return make


def _anchors(own: FasterRCNN) -> AnchorGenerator:
    """Torchvision's anchors of the sizes of ours, which stand elsewhere if a map has an odd number of cells."""
    return AnchorGenerator(own.rpn.anchor_generator.sizes, own.rpn.anchor_generator.aspect_ratios)


def _pooling(own: FasterRCNN) -> MultiScaleRoIAlign:
    """Torchvision's pooling with the settings of ours, whose scales differ if a map has an odd number of cells."""
    pool = own.roi_heads.box_roi_pool
    return MultiScaleRoIAlign(pool.featmap_names, pool.output_size, pool.sampling_ratio)


def _with_another_coder(part: str) -> Callable[[], FasterRCNN]:
    return _with(f"{part}.box_coder", lambda own: BoxCoder((5.0, 5.0, 2.0, 2.0)))


class OwnPredictor(nn.Module):
    """A box predictor with layers of other names, which a loop of one's own can train."""

    def __init__(self) -> None:
        super().__init__()
        self.scores, self.offsets = nn.Linear(16, 4), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.scores(x), self.offsets(x)


class OwnHead(nn.Module):
    """A head of boxes with layers of other names."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8 * 7 * 7, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(1))


def _with_another_layer() -> FasterRCNN:
    own = detector()
    own.roi_heads.box_head.fc7 = nn.Sequential(nn.Linear(16, 16))
    own.roi_heads.box_head.fc7.out_features = 16
    return own


def _with_another_epsilon() -> FasterRCNN:
    own = detector()
    next(module for module in own.modules() if isinstance(module, nn.BatchNorm2d)).eps = 0.1
    return own


def test_a_box_predictor_of_ones_own_is_trained() -> None:
    own = detector()
    own.roi_heads.box_predictor = OwnPredictor()
    target = {"boxes": torch.tensor([[4.0, 4.0, 40.0, 40.0]]), "labels": torch.tensor([3])}
    torch.stack([*own.losses([torch.rand(3, 64, 80)], [target]).values()]).sum().backward()
    assert own.roi_heads.box_predictor.scores.weight.grad.any()
    refused(lambda: own.losses([torch.rand(3, 64, 80)], [{**target, "labels": torch.tensor([0])}]), "go from 1 on, because 0", BadOption)


@pytest.mark.parametrize(
    ("model", "classes", "message"),
    [
        (detector, CLASSES[:2], "has 3 classes besides the background; name as many classes, each once, not 2"),
        (detector, (), "has 3 classes besides the background; name as many classes, each once, not 0"),
        (detector, ("cat", "cat", "dog"), 'not 3, with "cat" twice'),
        (detector, "cat", "classes are a list of strings"),
        (lambda: detector(box_nms_thresh=0.3), CLASSES, "a file cannot state that the box_nms_thresh of this detector is 0.3 and not 0.5"),
        (_with_threshold, CLASSES, "the box_score_thresh of this detector is 0.4 and not 0.05"),
        (
            _with("rpn.anchor_generator.aspect_ratios", lambda own: ((0.2, 1.0, 5.0),)),
            CLASSES,
            r"the aspect ratio .* is \(\(0.2, 1.0, 5.0\),",
        ),
        (_with("rpn.anchor_generator", _anchors), CLASSES, "the anchor generator of this detector is AnchorGenerator and not Anchors"),
        (_with_another_coder("rpn"), CLASSES, "the weight of the RPN's box coder of this detector is"),
        (_with_another_coder("roi_heads"), CLASSES, "the weight of the box coder of this detector is"),
        (_with("roi_heads.box_roi_pool.sampling_ratio", lambda own: 4), CLASSES, "the sampling ratio of this detector is 4 and not 2"),
        (_with("roi_heads.box_roi_pool.output_size", lambda own: (3, 5)), CLASSES, r"number of cells of the RoI pooling .* is \(3, 5\)"),
        (_with("roi_heads.box_predictor", lambda own: OwnPredictor()), CLASSES, "box predictor of this detector is a OwnPredictor"),
        (_with("transform.size_divisible", lambda own: 64), CLASSES, "the size_divisible of this detector is 64 and not 32"),
        (_with("transform.fixed_size", lambda own: (64, 64)), CLASSES, r"the fixed_size of this detector is \(64, 64\) and not None"),
        (_with("roi_heads.box_head", lambda own: OwnHead()), CLASSES, "is not as in the network that trickzoo builds"),
        (_with("roi_heads.box_roi_pool", _pooling), CLASSES, "the RoI pooling of this detector is MultiScaleRoIAlign and not RoIAlign"),
        (_with_another_layer, CLASSES, "fc7.* is not as in the network that trickzoo builds"),
        (_with_another_epsilon, CLASSES, "this detection network computes something else than the one"),
        (segmenter_of, CLASSES, "save takes a detector of trickzoo, not Segmenter"),
        (lambda: nn.DataParallel(detector()), CLASSES, "not DataParallel around it; pass its attribute module"),
    ],
)
def test_what_a_file_cannot_hold_is_refused(tmp_path: Path, model: Any, classes: Any, message: str) -> None:
    refused(lambda: trickzoo.detection.save(model(), tmp_path / "a.safetensors", classes=classes), message, BadOption)
    assert not any(tmp_path.iterdir())


def test_a_file_is_replaced_only_on_request(tmp_path: Path) -> None:
    file = tmp_path / "segmenter.safetensors"
    trickzoo.segmentation.save(segmenter_of(), file, classes=CLASSES)
    before = file.read_bytes()
    refused(lambda: trickzoo.segmentation.save(segmenter_of(aux=False), file, classes=CLASSES), "exists; name another", BadOption)
    refused(lambda: trickzoo.segmentation.save(segmenter_of(), tmp_path / "a.pth", classes=CLASSES), "must end in .safetensors", BadOption)
    assert file.read_bytes() == before
    trickzoo.segmentation.save(segmenter_of(aux=False), file, classes=CLASSES, overwrite=True)
    assert file.read_bytes() != before


def test_the_programs_on_the_page_of_detection_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs" / "detection.md").read_text(encoding="utf-8")
    section = page.split("### In your own training loop\n")[1].split("\n### ")[0]
    monkeypatch.chdir(tmp_path)
    jpeg(tmp_path / "street.jpg", 0)
    for program in re.findall("```python\n(.*?)```", section, re.DOTALL):
        exec(program, {})
    assert trickzoo.load("cells.safetensors").classes == ("red", "white")
    assert trickzoo.load("street.safetensors").classes == ("sky", "road", "tree")


def test_export_names_what_writes_a_detector(tmp_path: Path) -> None:
    refused(lambda: trickzoo.export(detector(), tmp_path / "a.safetensors"), "trickzoo.detection.save", BadOption)


def test_a_segmenter_whose_file_would_compute_something_else_is_not_saved(tmp_path: Path) -> None:
    own = segmenter_of()
    own.align_corners = True  # the file states this one
    trickzoo.segmentation.save(own, tmp_path / "a.safetensors", classes=CLASSES)
    next(module for module in own.head.modules() if isinstance(module, nn.BatchNorm2d)).eps = 0.1
    refused(lambda: trickzoo.segmentation.save(own, tmp_path / "b.safetensors", classes=CLASSES), "computes something else than", BadOption)
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("module", ["detection", "segmentation"])
def test_a_network_in_bf16_is_saved(module: str, tmp_path: Path) -> None:
    model = (detector() if module == "detection" else segmenter_of()).bfloat16()
    getattr(trickzoo, module).save(model, tmp_path / "a.safetensors", classes=CLASSES)
    assert trickzoo.load(tmp_path / "a.safetensors").classes == CLASSES
