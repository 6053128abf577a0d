"""The common part of the training of detectors and of segmenters."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from trickzoo.data.annotated import AnnotatedSet
from trickzoo.data.annotated_transforms import DetectionSamples, SegmentationSamples
from trickzoo.data.batches import read_batches
from trickzoo.data.checks import Summary, summary_of, summary_of_both
from trickzoo.data.location import AnnotatedLocation, Splits, open_splits
from trickzoo.data.selection import warn_if_seen
from trickzoo.recipes.collection import to_dict
from trickzoo.recipes.finetune import DetectionRecipe, SegmentationRecipe
from trickzoo.training import network_file, optimiser
from trickzoo.training.machine import Machine
from trickzoo.training.schedule import fine_tuning_rate
from trickzoo.training.shares import Shares
from trickzoo.training.task import Task
from trickzoo.wording import count


def open_data(recipe: DetectionRecipe | SegmentationRecipe, location: AnnotatedLocation, machine: Machine) -> Splits[Any]:
    """Open training and validation images with the annotations of the recipe's task. Raises what `open_splits` raises."""
    return open_splits(location, recipe.task)


class AnnotatedTask(Task):
    """A task on images with boxes or masks. Its network has a backbone, which may be pretrained.

    Args:
        recipe: recipe of the training.
        model: network from the `build` of its task; its attribute `trunk` is the backbone.
        images: training and validation images; the validation images are None if there are none.
        machine: random seed, micro-batches and decoding processes.
        accelerator: device, precision and processes.
        samples: training images after the random transform of the task.
    """

    activity = "fine-tuning"
    recipe: DetectionRecipe | SegmentationRecipe
    model: Any

    def __init__(
        self,
        recipe: DetectionRecipe | SegmentationRecipe,
        model: network_file.AnnotatedNetwork,
        images: Splits[Any],
        machine: Machine,
        accelerator: Accelerator,
        samples: DetectionSamples | SegmentationSamples,
    ) -> None:
        self.recipe, self.model, self.samples = recipe, model, samples
        self.data: Any = images.train
        self.val: Any = images.val
        self.accelerator, self.workers = accelerator, machine.decoders
        self.data_digest, self.val_digest = self.data.digest, self.val.digest if self.val is not None else None
        self.weights_sha256 = model.trunk.weights.digest() if model.trunk.weights else None
        if self.val is not None:
            warn_if_seen(self.val.names, model.trunk.weights, training=True)
        assert samples.transform is not None
        self.shares = Shares.of(len(self.data), recipe, samples.transform.DRAWS, machine.seed, accelerator, machine.micro_batch)

    @property
    def _parts(self) -> dict[str, AnnotatedSet]:
        return {"training": self.data, **({"validation": self.val} if self.val is not None else {})}

    @property
    def data_in_words(self) -> str:
        """Numbers of training images and of classes, such as "120 images of 10 classes"."""
        return f"{count(len(self.data), 'image')} of {count(len(self.data.classes), 'class')}"

    @property
    def description(self) -> str:
        """Description of the images if they were generated, otherwise empty."""
        return "; ".join(part.layout for part in self._parts.values() if part.generated)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the images that the user should read before the training starts, one line each."""
        found = [f"{where} images: {note}" for where, part in self._parts.items() for note in part.notes]
        return (*self.summary.notes, *found, *([self.description] if self.description else []))

    @functools.cached_property
    def summary(self) -> Summary:
        """Numbers of images and objects of each class, and the images that occur twice."""
        return summary_of_both(self.data, self.val) if self.val is not None else summary_of(self.data, "training")

    def facts(self) -> dict[str, Any]:
        """Return numbers of images, digests of images and weights, and the summary of the images, for the result file."""
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

    def optimiser(self) -> torch.optim.Optimizer:
        """Return the recipe's optimiser of the parameters that are not frozen."""
        return optimiser.build(self.recipe, [parameter for parameter in self.model.parameters() if parameter.requires_grad])

    def batches(self, first_step: int) -> Iterator[list[Any]]:
        """Yield micro-batches of samples, from this step to the end of the training."""
        plan = self.shares.of_epochs(first_step, self.recipe.epochs)
        return read_batches(self.samples, plan, self.workers, self.accelerator.device)

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of the 0-based `step` by the schedule of the recipe."""
        return fine_tuning_rate(self.recipe, step, self.shares.per_epoch)

    def metadata(self) -> dict[str, str]:
        """Return the header of a weight file, so that checkpoints can be loaded as weights too."""
        training = {"recipe": to_dict(self.recipe), "data_digest": self.data_digest}
        return network_file.header(self.model, self.recipe, self.data.classes, training)

    def save(self, path: Path, training: dict[str, Any]) -> None:
        """Write the network as a weight file from which it can be built again. `training` goes into the header of the file."""
        network_file.save(self.model, self.recipe, self.data.classes, path, training)
