"""What the training of detectors and of segmenters has in common."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from trickzoo.backbone import Backbone
from trickzoo.data.checks import Summary, summary_of, summary_of_both
from trickzoo.data.location import AnnotatedSet
from trickzoo.recipes.finetune import DetectionRecipe, SegmentationRecipe
from trickzoo.training import loop, network_file
from trickzoo.training.schedule import fine_tuning_rate


class AnnotatedTask(loop.Task):
    """A task on images with annotations of their own, on a backbone that another training may have made.

    Args:
        trunk: the backbone of the network.
        data, val: training and validation images.
        accelerator: device, precision and processes.
        workers: decoding processes.
    """

    activity = "fine-tuning"
    recipe: DetectionRecipe | SegmentationRecipe
    model: Any

    def __init__(self, trunk: Backbone, data: Any, val: Any, accelerator: Accelerator, workers: int) -> None:
        self.trunk, self.accelerator, self.workers = trunk, accelerator, workers
        self.data, self.val = data, val
        self.data_digest, self.val_digest = data.digest, val.digest if val is not None else None
        self.weights_sha256 = trunk.weights.digest() if trunk.weights else None

    @property
    def _parts(self) -> dict[str, AnnotatedSet]:
        return {"training": self.data, **({"validation": self.val} if self.val is not None else {})}

    @property
    def data_in_words(self) -> str:
        """How many training images of how many classes there are."""
        return f"{len(self.data):,} images of {len(self.data.classes)} classes"

    @property
    def description(self) -> str:
        """What the images are if they were generated, else nothing."""
        return "; ".join(part.layout for part in self._parts.values() if part.generated)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the images, one line each."""
        found = [f"{where} images: {note}" for where, part in self._parts.items() for note in part.notes]
        return (*self.summary.notes, *found, *([self.description] if self.description else []))

    @functools.cached_property
    def summary(self) -> Summary:
        """How often each class occurs in the images, and which images are there twice."""
        return summary_of_both(self.data, self.val) if self.val is not None else summary_of(self.data, "training")

    def facts(self) -> dict[str, Any]:
        """Numbers of images, digests of images and weights, and what the images hold."""
        return {
            "task": self.recipe.task,
            "measure": self.measure,
            "weights_sha256": self.weights_sha256,
            "n": len(self.val) if self.val is not None else 0,
            "n_train": len(self.data),
            "data_digest": self.data_digest,
            "val_digest": self.val_digest,
            "data_summary": self.summary.content,
            **({"data": self.description} if self.description else {}),
        }

    def learning_rate(self, step: int) -> float:
        """By the recipe's schedule."""
        return fine_tuning_rate(self.recipe, step, self.shares.per_epoch)

    def save(self, path: Path, training: dict[str, Any]) -> None:
        """Write the network, with what it takes to build it again."""
        network_file.save(self.model, self.recipe, self.data.classes, path, training)
