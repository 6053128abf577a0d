"""Fine-tuning a Faster R-CNN: building it from a recipe, training it, evaluating it, and loading it from its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from trickzoo.backbone import Backbone
from trickzoo.data.annotated_transforms import DetectionSample, DetectionSamples, FitAndFlip, check_sides
from trickzoo.data.batches import not_none
from trickzoo.data.boxes import DetectionSet
from trickzoo.data.location import Splits
from trickzoo.data.transforms import Normalisation
from trickzoo.detection import box_files, report
from trickzoo.detection.evaluate import detect, metrics, to_input
from trickzoo.detection.model import C4, C4_COCO, COCO, FPN, FasterRCNN, faster_rcnn, number_of_labels
from trickzoo.detection.parts import StageHead
from trickzoo.errors import BadOption
from trickzoo.factory import frozen_norms
from trickzoo.output_files import BOXES
from trickzoo.pages.page import Section
from trickzoo.recipes.finetune import DetectionRecipe
from trickzoo.training import network_file
from trickzoo.training.annotated_task import AnnotatedTask
from trickzoo.training.machine import Machine
from trickzoo.weights.comparison import random_image
from trickzoo.wording import count

SIDES = ("short", "long")
"""The sides in pixels that `load` can replace."""


def build(recipe: DetectionRecipe, classes: int) -> FasterRCNN:
    """Build the recipe's detector. `classes` is the number of classes without the background. Raises what `faster_rcnn` raises."""
    return _build(recipe, classes, True if recipe.weights == "default" else recipe.weights)


def _build(
    recipe: DetectionRecipe, classes: int, weights: bool | str | PathLike[str] | None, options: Mapping[str, Any] | None = None
) -> FasterRCNN:
    check_sides(recipe.short, recipe.long)
    random, stages = recipe.weights is None, recipe.trainable_stages
    defaults, coco = (FPN, COCO) if recipe.neck == "fpn" else (C4, C4_COCO)
    settings = {**defaults, **(coco if recipe.settings == "coco" else {})}
    considered = settings["rpn_pre_nms_top_n_train"] * recipe.proposals // settings["rpn_post_nms_top_n_train"]
    settings |= {
        "min_size": recipe.short,
        "max_size": recipe.long,
        "rpn_pre_nms_top_n_train": considered,
        "rpn_pre_nms_top_n_test": min(considered, settings["rpn_pre_nms_top_n_test"]),
        "rpn_post_nms_top_n_train": recipe.proposals,
        "rpn_post_nms_top_n_test": min(recipe.proposals, settings["rpn_post_nms_top_n_test"]),
        "box_batch_size_per_image": recipe.rois,
    }
    return faster_rcnn(
        recipe.model,
        weights=weights,
        options=options,
        num_classes=classes + 1,
        neck=recipe.neck,
        trainable_stages=("all" if random else 3) if stages is None else stages,
        norms=recipe.norms or ("live" if random else "frozen"),
        anchor_sizes=recipe.anchors,
        fpn_channels=recipe.fpn_channels,
        representation_size=recipe.representation_size,
        **settings,
    )


def load(path: str | PathLike[str], *, short: int | None = None, long: int | None = None) -> FasterRCNN:
    """Load a detector that `trickzoo finetune` wrote, in evaluation mode. `model.classes` are the names of labels 1, 2, ….

    `path` may also be the name of a detector of the zoo, such as "faster_rcnn_mobilenet_v1_025.tz_bccd", or an `hf-hub:` reference. `short`
    and `long` replace the recipe's image sides in pixels.

    Raises BadCheckpoint if the file contains something else or is damaged, and BadOption if the short side would be longer than the long
    side.
    """
    return _normalising(network_file.load(path, DetectionRecipe, _build, short=short, long=long))


@torch.random.fork_rng(devices=[])  # saving during a training run does not change it
def save(model: FasterRCNN, path: str | PathLike[str], *, classes: Sequence[str] | None = None, overwrite: bool = False) -> None:
    """Write a detector to a file that `load`, `trickzoo.load` and the commands read, for example after training in your own loop.

    The file states the network, its classes, the sides of its images and its normalisation. Networks from `trickzoo finetune` have such a
    file already, which also describes the training.

    Args:
        model: the detector, as `faster_rcnn` built it or `load` loaded it.
        path: the file, whose name ends in .safetensors.
        classes: names of labels 1, 2, …; by default those of the file that the detector comes from.
        overwrite: whether to replace the file if it exists.

    Raises:
        BadOption: if the model is something else, if the file exists, if the classes are not as many as the labels, if the layers are not
            those that `faster_rcnn` builds or compute something else, or if a file cannot state the settings of the detector.
        NotWritten: if the file cannot be written.
    """
    network_file.check_kind(model, FasterRCNN, "a detector")
    if (with_background := number_of_labels(model)) is None:
        predictor = type(model.roi_heads.box_predictor).__name__
        raise BadOption(
            f"a file cannot state that the box predictor of this detector is a {predictor}; save its state_dict() with torch.save, "
            "or give the predictor a linear layer named cls_score, as torchvision's FastRCNNPredictor has"
        )
    labels = with_background - 1
    recipes = [_recipe_of(model).but("own_loop.detection", settings=settings) for settings in ("voc", "coco")]
    built = [_normalising(_build(recipe, labels, None, model.trunk.options), model.trunk) for recipe in recipes]
    own, theirs = _settings(model), [_settings(each) for each in built]
    chosen = theirs.index(own) if own in theirs else 0
    if different := [name for name, value in own.items() if theirs[chosen][name] != value]:
        raise BadOption(
            f"a file cannot state that the {different[0]} of this detector is {own[different[0]]} and not {theirs[chosen][different[0]]}; "
            "leave it as it is in trickzoo until the file is written, and change it after loading"
        )
    outputs = f"{count(labels, 'class')} besides the background"
    network_file.save_own(model, path, recipes[chosen], built[chosen], classes, outputs, labels, overwrite, _raw_outputs)


def _raw_outputs(model: FasterRCNN) -> list[Tensor]:
    """Return what the heads of a detector give for the features of a random image and for random regions."""
    maps = [*model.backbone(random_image(model, 3, 128)).values()]
    objectness, deltas = model.rpn.head(maps)
    heads = model.roi_heads
    regions = random_image(model, model.backbone.out_channels, heads.box_roi_pool.output_size[0])
    return [*objectness, *deltas, *heads.box_predictor(heads.box_head(regions))]


def _recipe_of(model: FasterRCNN) -> DetectionRecipe:
    """Return a recipe that builds the detector. Its fields of the training are those of the detector's own recipe, or the defaults."""
    base = model.recipe or DetectionRecipe("own_loop.detection", model.trunk.name, "own", weights=None)
    short, long = model.sides
    anchors = tuple(size for level in model.rpn.anchor_generator.sizes for size in level)
    recipe = replace(base, model=model.trunk.name, short=short, long=long, anchors=anchors)
    head = model.roi_heads.box_head
    if isinstance(head, StageHead):
        return replace(recipe, neck="c4", **frozen_norms(model.trunk, head))
    width = model.roi_heads.box_predictor.cls_score.in_features
    return replace(recipe, neck="fpn", fpn_channels=model.backbone.out_channels, representation_size=width, **frozen_norms(model.trunk))


def _settings(model: FasterRCNN) -> dict[str, Any]:
    """Return the settings of a detector that determine what it detects, by their names in `FPN` where they have one."""
    rpn, heads = model.rpn, model.roi_heads
    mode, rpn.training = rpn.training, False  # the numbers of boxes are those of the mode
    try:
        boxes = {"rpn_pre_nms_top_n_test": rpn.pre_nms_top_n(), "rpn_post_nms_top_n_test": rpn.post_nms_top_n()}
    finally:
        rpn.training = mode
    return boxes | {
        "rpn_nms_thresh": rpn.nms_thresh,
        "rpn_score_thresh": rpn.score_thresh,
        "rpn_min_size": rpn.min_size,
        "box_score_thresh": heads.score_thresh,
        "box_nms_thresh": heads.nms_thresh,
        "box_detections_per_img": heads.detections_per_img,
        "anchor generator": type(rpn.anchor_generator).__name__,
        "aspect ratio": rpn.anchor_generator.aspect_ratios,
        "weight of the RPN's box coder": rpn.box_coder.weights,
        "weight of the box coder": heads.box_coder.weights,
        "RoI pooling": type(heads.box_roi_pool).__name__,
        "number of cells of the RoI pooling": heads.box_roi_pool.output_size,
        "sampling ratio": heads.box_roi_pool.sampling_ratio,
        "mean": list(model.transform.image_mean),
        "standard deviation": list(model.transform.image_std),
        "fixed_size": model.transform.fixed_size,
        "size_divisible": model.transform.size_divisible,
    }


def _normalising(model: FasterRCNN, like: Backbone | None = None) -> FasterRCNN:
    """Return the detector, which now normalises images as the weights of a backbone require, by default those that were loaded into it."""
    normalisation = Normalisation.of(like or model.trunk)
    model.transform.image_mean, model.transform.image_std = list(normalisation.mean), list(normalisation.std)
    return model


def new_task(recipe: DetectionRecipe, data: Splits[DetectionSet], machine: Machine, accelerator: Accelerator) -> Detection:
    """Build the recipe's detector for the classes of the images, and the task that trains it.

    Raises what `faster_rcnn` and `network_file.start` raise.
    """
    torch.manual_seed(machine.seed)
    whole = network_file.start(recipe, data.train.classes, _build)
    model = build(recipe, len(data.train.classes)) if whole is None else _normalising(whole)
    return Detection(recipe, model, data, machine, accelerator)


class Detection(AnnotatedTask):
    """The training of a detector from `build` on resized and flipped images. The arguments are those of `AnnotatedTask`.

    The seed also determines the sampling of anchors and proposals.
    """

    def __init__(
        self, recipe: DetectionRecipe, model: FasterRCNN, images: Splits[DetectionSet], machine: Machine, accelerator: Accelerator
    ) -> None:
        self.transform = FitAndFlip(recipe.short, recipe.long, recipe.flip)
        super().__init__(recipe, model, images, machine, accelerator, DetectionSamples(images.train, self.transform))
        self.measure = "coco_ap" if recipe.data == "coco" else "voc_ap50"

    def loss(self, net: nn.Module, batch: list[DetectionSample]) -> Tensor:
        """Return the sum of the four losses."""
        device = self.accelerator.device
        targets = [{"boxes": not_none(sample.boxes).to(device), "labels": not_none(sample.labels).to(device)} for sample in batch]
        with self.accelerator.autocast():
            losses = net([to_input(not_none(sample.pixels), device) for sample in batch], targets)
        return torch.stack([value.float() for value in losses.values()]).sum()

    def evaluate(self) -> dict[str, Any] | None:
        """Return VOC's AP in both forms and COCO's AP, in percent, or None without validation images."""
        if self.val is None:
            return None
        self.last_evaluation = detect(self.model, self.val, self.transform, self.accelerator, workers=self.workers)
        return metrics(self.last_evaluation)

    def findings(self) -> list[str]:
        """Return the results of the last evaluation as sentences, for the report."""
        return report.findings(self.last_evaluation, self.last_evaluation.summary())

    def sections(self, pictures: int) -> list[Section]:
        """Return the sections of the report on the last evaluation."""
        return report.sections(self.last_evaluation, self.last_evaluation.summary(), pictures)

    def write_predictions(self, folder: Path) -> None:
        """Write the boxes in the validation images to `predictions.json`, in COCO's results format, and those to find beside it."""
        box_files.write(folder / BOXES, self.val, self.last_evaluation.found)
