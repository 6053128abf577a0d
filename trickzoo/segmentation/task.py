"""Fine-tuning a segmenter: building it from a recipe, training it, evaluating it, and loading it from its file."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from trickzoo import registry
from trickzoo.data.annotated_transforms import Scale, ScaleAndCrop, SegmentationSample, SegmentationSamples
from trickzoo.data.batches import not_none
from trickzoo.data.location import Splits
from trickzoo.data.masks import IGNORE, SegmentationSet
from trickzoo.data.transforms import Normalisation
from trickzoo.factory import frozen_norms
from trickzoo.output_files import PREDICTIONS
from trickzoo.pages.page import Section
from trickzoo.recipes.finetune import SegmentationRecipe
from trickzoo.segmentation import count_files, report
from trickzoo.segmentation.evaluate import metrics, segment
from trickzoo.segmentation.model import Segmenter, segmenter
from trickzoo.training import network_file, optimiser
from trickzoo.training.annotated_task import AnnotatedTask
from trickzoo.training.machine import Machine
from trickzoo.training.norms import check_norms
from trickzoo.weights.comparison import random_image
from trickzoo.wording import count

log = logging.getLogger("trickzoo")

SIDES = ("short",)
"""The sides in pixels that `load` can replace."""


def build(recipe: SegmentationRecipe, classes: int) -> Segmenter:
    """Build the recipe's segmenter. `classes` is the number of classes, including the background. Raises what `segmenter` raises."""
    return _build(recipe, classes, True if recipe.weights == "default" else recipe.weights)


def _build(
    recipe: SegmentationRecipe, classes: int, weights: bool | str | PathLike[str] | None, options: Mapping[str, Any] | None = None
) -> Segmenter:
    return segmenter(
        recipe.model,
        head=recipe.head,
        weights=weights,
        options=options,
        num_classes=classes,
        output_stride=_output_stride(recipe),
        aux=recipe.aux > 0,
        align_corners=recipe.align_corners,
        trainable_stages="all" if recipe.trainable_stages is None else recipe.trainable_stages,
        norms=recipe.norms or "live",
    )


def _output_stride(recipe: SegmentationRecipe) -> int:
    """Return the recipe's output stride, or the next larger one that its backbone has, with a warning in the log."""
    architecture = registry.find(recipe.model.partition(".")[0])
    stride = architecture.output_stride_from(recipe.output_stride)
    if stride != recipe.output_stride:
        log.warning("%s: %s has no output stride %d; %d is used", recipe.name, architecture.name, recipe.output_stride, stride)
    return stride


def load(path: str | PathLike[str], *, short: int | None = None) -> Segmenter:
    """Load a segmenter that `trickzoo finetune` wrote, in evaluation mode. `model.classes` are the names of classes 0, 1, ….

    `path` may also be the name of a segmenter of the zoo, such as "fcn_mobilenet_v1_025.tz_camvid", or an `hf-hub:` reference. `short`
    replaces the recipe's short image side in pixels.
    Raises BadCheckpoint if the file contains something else or is damaged.
    """
    return network_file.load(path, SegmentationRecipe, _build, short=short)


@torch.random.fork_rng(devices=[])  # saving during a training run does not change it
def save(
    model: Segmenter,
    path: str | PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    short: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write a segmenter to a file that `load`, `trickzoo.load` and the commands read, for example after training in your own loop.

    The file states the network, its classes, the size of its images and its normalisation. Networks from `trickzoo finetune` have such a
    file already, which also describes the training.

    Args:
        model: the segmenter, as `fcn` or `segmenter` built it or `load` loaded it.
        path: the file, whose name ends in .safetensors.
        classes: names of classes 0, 1, …; by default those of the file that the segmenter comes from.
        short: the short side in pixels that images are resized to; by default that of the file that the segmenter comes from, and without
            one images keep their size.
        overwrite: whether to replace the file if it exists.

    Raises:
        BadOption: if the model is something else, if the file exists, if the classes are not as many as the outputs, or if the layers are
            not those that `segmenter` builds or compute something else.
        NotWritten: if the file cannot be written.
    """
    network_file.check_kind(model, Segmenter, "a segmenter")
    base = model.recipe or SegmentationRecipe("own_loop.segmentation", model.trunk.name, "own", weights=None, short=None)
    recipe = replace(
        base,
        name="own_loop.segmentation",
        model=model.trunk.name,
        head=model.head_name,
        output_stride=model.trunk.feature_info[-1].stride,
        aux=0.0 if model.aux_head is None else base.aux or 0.5,
        align_corners=model.align_corners,
        short=base.short if short is None else short,
        **frozen_norms(model.trunk),
    )
    again = _build(recipe, model.num_classes, None, model.trunk.options)
    outputs = count(model.num_classes, "class")
    network_file.save_own(model, path, recipe, again, classes, outputs, model.num_classes, overwrite, _raw_outputs)


def _raw_outputs(model: Segmenter) -> list[Tensor]:
    """Return the logits of a random image."""
    logits = model(random_image(model, 3, 128))
    assert isinstance(logits, Tensor)  # in evaluation mode there is no auxiliary head
    return [logits]


def new_task(recipe: SegmentationRecipe, data: Splits[SegmentationSet], machine: Machine, accelerator: Accelerator) -> Segmentation:
    """Build the recipe's segmenter for the classes of the images, and the task that trains it.

    Raises what `segmenter` and `network_file.start` raise.
    """
    torch.manual_seed(machine.seed)
    whole = network_file.start(recipe, data.train.classes, _build)
    model = build(recipe, len(data.train.classes)) if whole is None else whole
    return Segmentation(recipe, model, data, machine, accelerator)


class Segmentation(AnnotatedTask):
    """The training of a segmenter from `build` on random crops. The arguments are those of `AnnotatedTask`.

    The seed also determines dropout.
    """

    measure = "miou"
    recipe: SegmentationRecipe

    def __init__(
        self, recipe: SegmentationRecipe, model: Segmenter, images: Splits[SegmentationSet], machine: Machine, accelerator: Accelerator
    ) -> None:
        transform = ScaleAndCrop(recipe.base, recipe.crop, recipe.scale, recipe.flip, recipe.blur)
        super().__init__(recipe, model, images, machine, accelerator, SegmentationSamples(images.train, transform))
        check_norms(model, self.shares.micro, recipe.crop)
        self.normalise = Normalisation.of(model.trunk)

    def optimiser(self) -> torch.optim.Optimizer:
        """Return the recipe's optimiser of the parameters that are not frozen. The heads have their own learning rate."""
        backbone = [parameter for parameter in self.model.backbone.parameters() if parameter.requires_grad]
        heads = [each for head in (self.model.head, self.model.aux_head) if head is not None for each in head.parameters()]
        groups = [{"params": backbone, "factor": 1.0}, {"params": heads, "factor": self.recipe.head_lr}]
        return optimiser.build(self.recipe, groups)

    def loss(self, net: nn.Module, batch: list[SegmentationSample]) -> Tensor:
        """Return the cross-entropy over the judged pixels, with that of the auxiliary head added at the recipe's weight."""
        device = self.accelerator.device
        images, masks = (torch.stack([not_none(getattr(s, each)) for s in batch]).to(device) for each in ("pixels", "mask"))
        with self.accelerator.autocast():
            main, aux = net(self.normalise(images))
        loss = pixel_cross_entropy(main, masks)
        return loss if aux is None else loss + self.recipe.aux * pixel_cross_entropy(aux, masks)

    def weight(self, batch: list[SegmentationSample]) -> float:
        """Return the share of labelled pixels, over which the loss is the mean."""
        return statistics.fmean(float((not_none(sample.mask) != IGNORE).float().mean()) for sample in batch)

    def evaluate(self) -> dict[str, Any] | None:
        """Return mean IoU and pixel accuracy in percent, over whole images in the files' sizes, or None without validation images."""
        if self.val is None:
            return None
        transform = Scale(self.recipe.short)
        self.last_evaluation = segment(self.model, self.val, transform, self.normalise, self.accelerator, workers=self.workers)
        return metrics(self.last_evaluation)

    def findings(self) -> list[str]:
        """Return the results of the last evaluation as sentences, for the report."""
        return report.findings(self.last_evaluation, self.val)

    def sections(self, pictures: int) -> list[Section]:
        """Return the sections of the report on the last evaluation."""
        return report.sections(self.last_evaluation, self.val, pictures)

    def write_predictions(self, folder: Path) -> None:
        """Write the counts of each validation image to `predictions.csv`, from which its mean IoU follows."""
        count_files.write(folder / PREDICTIONS, self.val, self.last_evaluation)


def pixel_cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the mean cross-entropy over the pixels of (N, H, W) masks that are not `IGNORE`, or 0 if there are none, as in some crops."""
    total = F.cross_entropy(logits.float(), masks.long(), ignore_index=IGNORE, reduction="sum")
    return total / (masks != IGNORE).sum().clamp(min=1)
