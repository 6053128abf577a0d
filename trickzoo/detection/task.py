"""Fine-tuning a Faster R-CNN: building it from a recipe, training it, evaluating it, and loading it from its file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from trickzoo.data.annotated_transforms import DetectionSample, DetectionSamples, FitAndFlip, check_sides
from trickzoo.data.batches import read_batches, there
from trickzoo.data.boxes import DetectionSet
from trickzoo.data.location import Splits
from trickzoo.detection import report, stored
from trickzoo.detection.evaluate import detect, figures, to_input
from trickzoo.detection.model import C4, C4_COCO, COCO, FPN, FasterRCNN, faster_rcnn
from trickzoo.pages.page import Section
from trickzoo.recipes.finetune import DetectionRecipe
from trickzoo.training import network_file, optimiser
from trickzoo.training.annotated_task import AnnotatedTask
from trickzoo.training.machine import Machine
from trickzoo.training.shares import Shares

SIDES = ("short", "long")
"""The sides in pixels that `load` can replace."""


def build(recipe: DetectionRecipe, classes: int) -> FasterRCNN:
    """Build the recipe's detector. `classes` is the number of classes without the background. Raises what `faster_rcnn` raises."""
    return _build(recipe, classes, True if recipe.weights == "default" else recipe.weights)


def _build(
    recipe: DetectionRecipe, classes: int, weights: bool | str | PathLike[str] | None, options: Mapping[str, Any] | None = None
) -> FasterRCNN:
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
    """Load a detector that `trickzoo-finetune` wrote, in evaluation mode. `model.classes` are the names of labels 1, 2, ….

    `path` may also be an `hf-hub:` reference. `short` and `long` replace the recipe's image sides in pixels.
    Raises BadCheckpoint if the file contains something else or is damaged, and BadOption if the short side would be longer than the long
    side.
    """
    opened, recipe = network_file.open_file(Path(path), DetectionRecipe)
    recipe = replace(recipe, short=recipe.short if short is None else short, long=recipe.long if long is None else long)
    check_sides(recipe.short, recipe.long)
    weights = opened.weights
    assert isinstance(weights.classes, tuple)
    model = _build(recipe, len(weights.classes), None, opened.options)
    network_file.restore(model, opened)
    model.trunk.weights = weights
    if weights.preprocessing is not None:
        model.transform.image_mean, model.transform.image_std = list(weights.preprocessing.mean), list(weights.preprocessing.std)
    model.classes, model.recipe = weights.classes, recipe
    return model.eval()


def new_task(recipe: DetectionRecipe, data: Splits[DetectionSet], machine: Machine, accelerator: Accelerator) -> Detection:
    """Build the recipe's detector for the classes of the images, and the task that trains it. Raises what `faster_rcnn` raises."""
    torch.manual_seed(machine.seed)
    model = build(recipe, len(data.train.classes))
    return Detection(
        recipe,
        model,
        data.train,
        data.val,
        seed=machine.seed,
        accelerator=accelerator,
        micro_batch=machine.micro_batch,
        workers=machine.decoders,
    )


class Detection(AnnotatedTask):
    """The training of a detector by a recipe.

    Args:
        recipe: the recipe.
        model: the detector, from `build`.
        data, val: training and validation images.
        seed: the random seed of the order, the flips, and the sampling of anchors and proposals.
        accelerator: device, precision and processes.
        micro_batch: how many images a process takes at once; gradients are accumulated over its share of the batch.
        workers: number of decoding processes.
    """

    def __init__(
        self,
        recipe: DetectionRecipe,
        model: FasterRCNN,
        data: DetectionSet,
        val: DetectionSet | None,
        *,
        seed: int,
        accelerator: Accelerator,
        micro_batch: int | None = None,
        workers: int = 0,
    ) -> None:
        super().__init__(model.trunk, data, val, accelerator, workers)
        self.recipe: DetectionRecipe = recipe
        self.measure = "coco_ap" if recipe.data == "coco" else "voc_ap50"
        self.model: FasterRCNN = model
        self.transform = FitAndFlip(recipe.short, recipe.long, recipe.flip)
        self.shares = Shares.of(len(data), recipe, FitAndFlip.DRAWS, seed, accelerator, micro_batch)

    def optimiser(self) -> torch.optim.Optimizer:
        """Return the recipe's optimiser of the parameters that are not frozen."""
        return optimiser.build(self.recipe, [parameter for parameter in self.model.parameters() if parameter.requires_grad])

    def batches(self, first_step: int) -> Iterator[list[DetectionSample]]:
        """Yield micro-batches of resized and flipped images with the boxes that train, from this step to the end of the training."""
        return read_batches(
            DetectionSamples(self.data, self.transform), self.shares.of_epochs(first_step, self.recipe.epochs), self.workers
        )

    def loss(self, net: nn.Module, batch: list[DetectionSample]) -> Tensor:
        """Return the sum of the four losses."""
        device = self.accelerator.device
        targets = [{"boxes": there(sample.boxes).to(device), "labels": there(sample.labels).to(device)} for sample in batch]
        with self.accelerator.autocast():
            losses = net([to_input(there(sample.pixels), device) for sample in batch], targets)
        return torch.stack([value.float() for value in losses.values()]).sum()

    def evaluate(self) -> dict[str, Any] | None:
        """Return VOC's AP in both forms and COCO's AP, in percent, or None without validation images."""
        if self.val is None:
            return None
        self.judgement = detect(self.model, self.val, self.transform, self.accelerator, workers=self.workers)
        return figures(self.judgement)

    def findings(self) -> list[str]:
        """Return the results of the last evaluation as sentences, for the report."""
        return report.findings(self.judgement, self.judgement.summary())

    def sections(self) -> list[Section]:
        """Return the sections of the report on the last evaluation."""
        return report.sections(self.judgement, self.judgement.summary())

    def write_predictions(self, folder: Path) -> None:
        """Write the boxes in the validation images to `predictions.json`, in COCO's results format, and those to find beside it."""
        stored.write(folder / stored.PREDICTIONS, self.val, self.judgement.found)
