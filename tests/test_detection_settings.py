"""The settings of a detector: those of the released recipes, and those that a user gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import trickzoo
from trickzoo.detection import faster_rcnn, task
from trickzoo.detection.model import C4, C4_COCO, COCO, FPN, FasterRCNN
from trickzoo.errors import BadCheckpoint, BadOption, UnknownName
from trickzoo.recipes import finetune
from trickzoo.recipes.collection import from_dict, override, to_dict
from trickzoo.recipes.finetune import DetectionRecipe
from trickzoo.training.network_file import save


def settings_of(model: FasterRCNN) -> dict[str, Any]:
    """What a detector was built with, under the names of `FPN` and `C4`."""
    rpn, heads, transform = model.rpn, model.roi_heads, model.transform
    sampler, box_sampler = rpn.fg_bg_sampler, heads.fg_bg_sampler
    return {
        "min_size": transform.min_size[0],
        "max_size": transform.max_size,
        "rpn_pre_nms_top_n_train": rpn._pre_nms_top_n["training"],
        "rpn_pre_nms_top_n_test": rpn._pre_nms_top_n["testing"],
        "rpn_post_nms_top_n_train": rpn._post_nms_top_n["training"],
        "rpn_post_nms_top_n_test": rpn._post_nms_top_n["testing"],
        "rpn_nms_thresh": rpn.nms_thresh,
        "rpn_fg_iou_thresh": rpn.proposal_matcher.high_threshold,
        "rpn_bg_iou_thresh": rpn.proposal_matcher.low_threshold,
        "rpn_batch_size_per_image": sampler.sampler.batch_size_per_image,
        "rpn_positive_fraction": sampler.sampler.positive_fraction,
        "rpn_score_thresh": rpn.score_thresh,
        "rpn_min_size": rpn.min_size,
        "box_score_thresh": heads.score_thresh,
        "box_nms_thresh": heads.nms_thresh,
        "box_detections_per_img": heads.detections_per_img,
        "box_fg_iou_thresh": heads.proposal_matcher.high_threshold,
        "box_bg_iou_thresh": heads.proposal_matcher.low_threshold,
        "box_batch_size_per_image": box_sampler.sampler.batch_size_per_image,
        "box_positive_fraction": box_sampler.sampler.positive_fraction,
    }


def test_settings_are_the_released_recipes() -> None:
    fpn, c4 = faster_rcnn("resnet18", trainable_stages=0), faster_rcnn("resnet18", neck="c4", **C4_COCO)
    assert settings_of(fpn) == FPN
    assert settings_of(c4) == {**C4, **C4_COCO}
    assert (C4["rpn_post_nms_top_n_test"], C4["box_nms_thresh"], C4["min_size"], C4["max_size"]) == (300, 0.3, 600, 1000)
    assert (COCO["min_size"], COCO["max_size"]) == (800, 1333)
    assert c4.roi_heads.box_predictor.cls_score.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert c4.roi_heads.box_predictor.bbox_pred.weight.std().item() == pytest.approx(0.001, rel=0.1)


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [(finetune.VOC_BOXES, C4), (finetune.COCO_BOXES, {**C4, **C4_COCO}), (finetune.COCO_PYRAMID, {**FPN, **COCO})],
    ids=["voc", "coco", "coco_fpn"],
)
def test_a_released_recipe_builds_its_settings(recipe: DetectionRecipe, settings: Mapping[str, Any], tmp_path: Path) -> None:
    """In training, and in the file that it leaves."""
    mine = replace(recipe, model="resnet18", weights=None, fpn_channels=8, representation_size=8)
    model = task.build(mine, 2)
    assert settings_of(model) == settings
    save(model, mine, ("cat", "dog"), tmp_path / "model.safetensors", {"recipe": to_dict(mine)})
    assert settings_of(task.load(tmp_path / "model.safetensors")) == settings


def test_the_layout_of_the_images_changes_no_setting() -> None:
    """The released recipe for COCO on boxes in VOC's XML, and the other way round, are still what was asked for."""
    for recipe, layout, nms in ((finetune.COCO_BOXES, "voc", 0.5), (finetune.VOC_BOXES, "coco", 0.3)):
        model = task.build(override(recipe, {"data": layout, "model": "resnet18", "weights": "none"}), 2)
        assert model.roi_heads.nms_thresh == nms


def test_recipes_without_the_field_settings_build_the_same_network_as_before() -> None:
    content = to_dict(finetune.COCO_BOXES.but("mine", model="resnet18", weights=None))
    del content["settings"]
    assert settings_of(task.build(from_dict(content, DetectionRecipe), 2)) == {**C4, **COCO}


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("mobilenet_v1_025", {"neck": "c4"}, BadOption, 'mobilenet_v1_025: neck="c4" is for ResNets; use neck="fpn"'),
        ("resnet18", {"neck": "bifpn"}, BadOption, 'neck must be "fpn" or "c4", not "bifpn"'),
        ("resnet18", {"num_classes": "3"}, BadOption, "num_classes counts the background and must be 2 or more, not '3'"),
        ("resnet18", {"num_classes": 1}, BadOption, "num_classes counts the background and must be 2 or more, not 1"),
        ("resnet18", {"trainable_stages": 5}, BadOption, 'trainable_stages must be 0 to 4, or "all" for the stem too, not 5'),
        ("resnet18", {"norms": "sync"}, BadOption, 'norms must be "frozen" or "live", not "sync"'),
        ("resnet18", {"box_nms_tresh": 0.3}, BadOption, 'a detector has no setting "box_nms_tresh"; did you mean box_nms_thresh'),
        ("resnet18", {"weights_backbone": True}, BadOption, 'no setting "weights_backbone"; weights=True loads the default weight'),
        ("resnet18", {"anchor_sizes": (32, 64)}, BadOption, r"a size for each of the strides \(4, 8, 16, 32, 64\), not 2 sizes"),
        ("resnet18_e", {}, UnknownName, "did you mean resnet18"),
        ("resnet18", {"weights": "no/such.safetensors"}, BadCheckpoint, "no/such.safetensors"),
    ],
)
def test_mistakes_are_one_line(name: str, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        faster_rcnn(name, **options)
    assert "\n" not in str(caught.value)


def test_public_name() -> None:
    """The function and its module share a name; the package has the function, whatever was imported first."""
    assert trickzoo.detection.faster_rcnn is faster_rcnn


def test_anchor_sizes() -> None:
    assert faster_rcnn("resnet18", anchor_sizes=(8, 16, 32, 64, 128)).rpn.anchor_generator.sizes == ((8,), (16,), (32,), (64,), (128,))
    model = faster_rcnn("resnet18", neck="c4", anchor_sizes=(16, 48))
    assert model.rpn.anchor_generator.sizes == ((16, 48),)
    assert model.rpn.head.cls_logits.out_channels == 6
