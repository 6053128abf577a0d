"""Detectors and segmenters of GluonCV: that an imported one computes the same, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from tests import gluoncv
from tests.commands import caller
from tests.test_parity import filled
from trickzoo import detection, segmentation
from trickzoo.cli import zoo
from trickzoo.errors import BadCheckpoint, BadOption
from trickzoo.gluoncv import import_gluoncv

MOST = 30
"""How many proposals are compared; the head takes most of the time."""
Arrays = dict[str, np.ndarray]
ANCHORS, STDS = "rpn.anchor_generator.anchors", "_target_generator._box_encoder.stds"


@pytest.fixture(scope="module")
def detector() -> gluoncv.FasterRCNN:
    """GluonCV's Faster R-CNN for three classes, whose boxes differ from the anchors and the proposals."""
    anchors = gluoncv.FasterRCNN(3, MOST).rpn.anchor_generator.anchors
    network = filled(gluoncv.FasterRCNN(3, MOST))
    network.rpn.anchor_generator.anchors = anchors
    network.rpn.loc.weight.data.mul_(0.1)
    return network


@pytest.fixture(scope="module")
def arrays(detector: gluoncv.FasterRCNN) -> Arrays:
    coding = {STDS: np.array((0.1, 0.1, 0.2, 0.2), np.float32), STDS.replace("stds", "means"): np.zeros(4, np.float32)}
    return gluoncv.arrays_of(detector) | coding  # what trainings of GluonCV also write


def written(arrays: Arrays, folder: Path) -> Path:
    (folder / "net.params").write_bytes(gluoncv.params(arrays))
    return folder / "net.params"


@torch.inference_mode()
def test_an_imported_detector_finds_the_same(detector: gluoncv.FasterRCNN, arrays: Arrays, tmp_path: Path) -> None:
    out = tmp_path / "net.safetensors"
    task, backbone, published = import_gluoncv(written(arrays, tmp_path), out, classes=("cat", "dog", "bird"))
    assert (task, backbone, published) == ("detection", "resnet18", None)
    ours = detection.load(out)
    assert ours.classes == ("cat", "dog", "bird")
    ours.rpn._post_nms_top_n["testing"] = MOST
    ours.rpn.min_size -= 1  # GluonCV counts a box's first and last pixel, which matters for no other box
    x = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    images = ImageList(x, [(96, 128)])
    features = ours.backbone(x)
    proposals, _ = ours.rpn(images, features)
    heads = ours.roi_heads
    scores, deltas = heads.box_predictor(heads.box_head(heads.box_roi_pool(features, proposals, images.image_sizes)))
    expected = detector(x)
    assert len(expected[0]) == MOST
    assert expected[1].std() > 0.01
    torch.testing.assert_close(proposals[0], expected[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(scores.softmax(1)[:, 1:], expected[1], atol=1e-4, rtol=0)
    torch.testing.assert_close(heads.box_coder.decode(deltas, proposals)[:, 1:], expected[2], atol=1e-2, rtol=1e-4)


@torch.inference_mode()
def test_an_imported_segmenter_computes_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = filled(gluoncv.FCN(21))
    gluoncv.save(theirs, tmp_path / "fcn.params")
    status, said, _ = caller(capsys, zoo)("weights", "import-gluoncv", tmp_path / "fcn.params")
    assert (status, said) == (0, f"{tmp_path / 'fcn.safetensors'}: resnet18_c for segmentation (not in GluonCV's list)\n")
    ours = segmentation.load(tmp_path / "fcn.safetensors")
    assert (ours.classes[0], ours.classes[-1]) == ("background", "tvmonitor")
    x = torch.randn(2, 3, 57, 90, generator=torch.Generator().manual_seed(1))
    main, aux = theirs(x)
    assert main.std() > 0.1 and aux.std() > 0.1
    torch.testing.assert_close(ours(x), main, atol=1e-4, rtol=0)
    ours.train()
    for module in ours.modules():
        module.training = module is ours  # the auxiliary head is used in training only
    torch.testing.assert_close(ours(x).aux, aux, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({ANCHORS: lambda a: a + 1}, "its anchors are not those of scales 2, 4, 8, 16, 32 and ratios 0.5, 1, 2"),
        ({STDS: lambda a: a * 2}, r"the stds of its box coding are \[0.2.*\], not \[0.1, 0.1, 0.2, 0.2\]"),
        (
            {"rpn.conv1.0.weight": lambda a: a[:200]},
            r"rpn.conv1.0.weight has the shape \(200, .*, and in trickzoo's network \(256,",
        ),
        (
            {"features.4.0.conv1.weight": lambda a: a[:, :3]},
            "is not a Faster R-CNN .* nearest is resnet18, which differs in features.4",
        ),
    ],
)
def test_a_detector_of_another_structure_is_refused(changes: dict, words: str, arrays: Arrays, tmp_path: Path) -> None:
    other = arrays | {name: change(arrays[name]) for name, change in changes.items()}
    with pytest.raises(BadCheckpoint, match=words):
        import_gluoncv(written(other, tmp_path), tmp_path / "net.safetensors", classes=("cat", "dog", "bird"))
    assert not (tmp_path / "net.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rpn.rpn_head.score.bias features.P6_conv1_weight", "its sixth level is a convolution"),
        ("rpn.score.bias mask.deconv.bias", "it is a Mask R-CNN"),
        ("rpn.score.bias newbox_features.0.body.0.bias", "it is a Double-Head R-CNN"),
        ("head.psp.conv1.0.weight", "is a PSPNet; of GluonCV's segmenters, trickzoo has FCN only"),
        ("head.aspp.project.0.weight", "is a DeepLab"),
        ("head.block.0.weight", "is not a FCN of GluonCV that trickzoo has"),
    ],
)
def test_another_kind_of_network_is_named(name: str, words: str, tmp_path: Path) -> None:
    path = written({each: np.zeros(1, np.float32) for each in name.split()}, tmp_path)
    with pytest.raises(BadCheckpoint, match=words):
        import_gluoncv(path, tmp_path / "net.safetensors")


def test_unknown_classes_are_asked_for(arrays: Arrays, tmp_path: Path) -> None:
    path = written(arrays, tmp_path)
    with pytest.raises(BadOption, match="has 3 classes, not those of VOC or COCO; name a file of its classes with --classes"):
        import_gluoncv(path, tmp_path / "net.safetensors")
    with pytest.raises(BadOption, match="has 3 classes, and --classes names 2"):
        import_gluoncv(path, tmp_path / "net.safetensors", classes=("cat", "dog"))
