"""Imports the Faster R-CNNs of GluonCV, the implementation of the paper's authors, from MXNet's `.params` files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from trickzoo import registry
from trickzoo.data.readers import voc
from trickzoo.detection.model import FasterRCNN
from trickzoo.detection.task import build
from trickzoo.errors import BadCheckpoint, BadOption
from trickzoo.recipes.collection import to_dict
from trickzoo.recipes.finetune import COCO_BOXES, VOC_BOXES
from trickzoo.training import network_file
from trickzoo.weights import convert
from trickzoo.weights.gluoncv import Candidate, Params, check_number, fill, find, names_of_resnet, trained_shapes
from trickzoo.wording import count

COCO_CLASSES = tuple(name for name in FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"] if name not in ("__background__", "N/A"))
KNOWN = {20: (VOC_BOXES, voc.CLASSES), 80: (COCO_BOXES, COCO_CLASSES)}
"""The recipe and the classes of GluonCV's detectors, by the number of classes."""

PLACES = {"conv1": "features.0", "bn1": "features.1", "layer1": "features.4", "layer2": "features.5", "layer3": "features.6"}
"""The place of each part of the backbone in GluonCV's list of layers. The last stage is not in that list."""
HEADS = {
    "rpn.head.conv.0.0": "rpn.conv1.0",
    "rpn.head.cls_logits": "rpn.score",
    "rpn.head.bbox_pred": "rpn.loc",
    "roi_heads.box_predictor.cls_score": "class_predictor",
    "roi_heads.box_predictor.bbox_pred": "box_predictor",
}
ANCHORS = "rpn.anchor_generator.anchors"
CODING = "_target_generator._box_encoder."
STANDARD_DEVIATIONS = (0.1, 0.1, 0.2, 0.2)
"""GluonCV predicts the boxes of RoIs in these units. The box coder of torchvision's detectors has the same."""


def import_detector(params: Params, out: Path, classes: tuple[str, ...] | None = None) -> str:
    """Write the Faster R-CNN in a file of GluonCV to a .safetensors file that `detection.load` reads, and return its backbone's name.

    The scores and boxes are those of GluonCV's network, to rounding, on images whose sides are multiples of 32; other images are padded
    here. Without `classes` those of VOC or COCO are taken, by their number.
    Raises BadCheckpoint if the network is not a Faster R-CNN on a backbone of the zoo without a feature pyramid, or has other anchors or
    another coding of boxes, and BadOption if the classes are unknown or too many or few.
    """
    _check_kind(params)
    constants = {name for name in params.arrays if name == ANCHORS or name.startswith(CODING)}
    weights = {name: array for name, array in params.arrays.items() if name not in constants}
    architecture, names, _ = find(params._replace(arrays=weights), _candidates(), "Faster R-CNN")
    _check_constants(params)
    outputs = weights["class_predictor.weight"].shape[0] - 1
    check_number(params, classes, outputs)
    recipe, known = KNOWN.get(outputs, (VOC_BOXES, None))
    names_of_classes = classes or known
    if names_of_classes is None:
        raise BadOption(f"{params.path} has {count(outputs, 'class')}, not those of VOC or COCO; name a file of its classes with --classes")
    recipe = recipe.but("gluoncv.faster_rcnn", model=architecture.name)
    model = build(replace(recipe, weights=None), outputs)
    fill(model, names, weights | _converted(weights, model), params.path)
    network_file.save(model, recipe, names_of_classes, out, {**params.origin, "recipe": to_dict(recipe)})
    return architecture.name


def _check_kind(params: Params) -> None:
    """Raise BadCheckpoint for the detectors of GluonCV that have another structure than trickzoo's."""
    for sign, reason in (
        (
            "features.P6_conv1",
            "its sixth level is a convolution of the fifth and its RPN has 1024 channels; trickzoo pools the fifth level",
        ),
        ("mask.", "it is a Mask R-CNN"),
        ("newbox_features.", "it is a Double-Head R-CNN"),
    ):
        if any(name.startswith(sign) for name in params.arrays):
            raise BadCheckpoint(f"{params.path} cannot be imported: {reason}; trickzoo imports Faster R-CNN without a feature pyramid")


def _candidates() -> Iterator[Candidate]:
    """Yield a Faster R-CNN for each ResNet whose layers have timm's names at GluonCV."""
    for architecture in registry.ARCHITECTURES.values():
        if architecture.family == "resnet" and "timm" in convert.layouts(architecture):
            names, shapes = {}, {}
            own = trained_shapes(architecture)
            for key, theirs in names_of_resnet(architecture, list(own)).items():
                part, _, rest = theirs.partition(".")
                last = key.removeprefix("stages.3.")
                ours = f"backbone.body.{key}" if last == key else f"roi_heads.box_head.stage.{last}"
                names[ours], shapes[ours] = f"{PLACES.get(part, 'top_features.0')}.{rest}", own[key]
            names |= {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in HEADS.items() for kind in ("weight", "bias")}
            yield Candidate(architecture, names, shapes)


def _check_constants(params: Params) -> None:
    """Raise BadCheckpoint if the file states other anchors or another coding of boxes than GluonCV's released networks have."""
    expected = gluoncv_anchors()
    stated = params.arrays.get(ANCHORS, expected)
    if (
        stated.numel() == 0
        or params.arrays["rpn.score.bias"].numel() != len(expected)
        or not torch.equal(stated.flatten()[: expected.numel()].view(-1, 4), expected)
    ):
        raise BadCheckpoint(f"{params.path} cannot be imported: its anchors are not those of scales 2, 4, 8, 16, 32 and ratios 0.5, 1, 2")
    for name, usual in (("stds", STANDARD_DEVIATIONS), ("means", (0.0,) * 4)):
        stated = params.arrays.get(CODING + name, torch.tensor(usual))
        if stated.tolist() != torch.tensor(usual).tolist():
            raise BadCheckpoint(f"{params.path} cannot be imported: the {name} of its box coding are {stated.tolist()}, not {list(usual)}")


def gluoncv_anchors() -> Tensor:
    """Return the (15, 4) anchors of GluonCV's first cell, x1 y1 x2 y2 in pixels, as its model_zoo/rcnn/rpn/anchor.py computes them.

    The sides of 16 × 16 pixels at the ratios 0.5, 1 and 2 are rounded, and then enlarged. The cell's centre is at 7.5, and an anchor of
    w pixels reaches from its first pixel to its last, which is a width of w - 1.
    """
    sides = torch.tensor([[23, 12], [16, 16], [11, 22]])[:, None] * torch.tensor([2, 4, 8, 16, 32])[:, None]
    half = (sides.reshape(-1, 2).float() - 1) / 2
    return torch.cat([7.5 - half, 7.5 + half], 1)


def _converted(weights: dict[str, Tensor], model: FasterRCNN) -> dict[str, Tensor]:
    """Return the arrays of the two layers whose meaning differs.

    GluonCV's box predictor has no rows for the background. Its RPN predicts boxes relative to its own anchors, which differ from trickzoo's
    by a shift and a scale. For the anchors (x, w) and (x', w'), the predictions dx' = (w dx + x - x') / w' and dw' = dw + log(w / w') give
    the same boxes. They are linear in dx and dw, so that new weights and biases of the layer are enough.
    """
    generator = model.rpn.anchor_generator
    generator.set_cell_anchors(torch.float32, torch.device("cpu"))
    (theirs, ours) = ((a[:, :2].add(a[:, 2:]) / 2, a[:, 2:] - a[:, :2]) for a in (gluoncv_anchors(), generator.cell_anchors[0]))
    scale = torch.cat([theirs[1] / ours[1], torch.ones(len(ours[1]), 2)], 1)
    shift = torch.cat([(theirs[0] - ours[0]) / ours[1], (theirs[1] / ours[1]).log()], 1)
    found = {
        "rpn.loc.weight": weights["rpn.loc.weight"] * scale.view(-1, 1, 1, 1),
        "rpn.loc.bias": weights["rpn.loc.bias"] * scale.flatten() + shift.flatten(),
    }
    for kind in ("weight", "bias"):
        rows = weights[f"box_predictor.{kind}"]
        found[f"box_predictor.{kind}"] = torch.cat([torch.zeros(4, *rows.shape[1:]), rows])
    return found
