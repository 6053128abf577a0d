"""The interface of a task: what a training run needs of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trickzoo.data.selection import Selected
from trickzoo.pages.page import Section
from trickzoo.recipes.collection import AnyRecipe
from trickzoo.training.shares import Shares


class Task(ABC):
    """Interface of a task: the network, its images, its loss and its evaluation, as the loop and the job use them.

    Attributes:
        activity: name of the training in result files, such as "fine-tuning".
        measure: name of the metric of `evaluate` that selects the best checkpoint; higher is better.
        recipe: recipe of the training, which checkpoints store.
        model: network to train. The loop moves it to the device.
        shares: assignment of the images of each step to processes and micro-batches.
        data_digest: digest of the training images and their labels.
        val_digest: digest of the validation images and their labels; None if there are no validation images.
        average: network that holds the averaged weights, which checkpoints store too; None if the recipe does not average weights.
        weights_sha256: SHA-256 of the weight file that the model started from; None if it started from scratch.
        last_evaluation: what the last `evaluate` in this process computed, for the report; None before it, or without validation images.
        teacher_sha256: SHA-256 of the weight file of the teacher network; None if the training does not distil.
        selected: how the images were selected.
    """

    activity: str = "training"
    measure: str
    recipe: AnyRecipe
    model: nn.Module
    shares: Shares
    data_digest: str
    val_digest: str | None = None
    average: nn.Module | None = None
    weights_sha256: str | None = None
    teacher_sha256: str | None = None
    last_evaluation: Any = None
    selected: Selected = Selected()

    @property
    def identity(self) -> dict[str, str | None]:
        """Digests of the inputs that the outcome depends on besides the recipe and the seed, as arguments of `checkpoint.check`."""
        return {name: getattr(self, name) for name in ("data_digest", "val_digest", "weights_sha256", "teacher_sha256")}

    @abstractmethod
    def optimiser(self) -> torch.optim.Optimizer:
        """Build the optimiser of the model, which is on its device already.

        The loop sets the learning rate of each parameter group to that of the step, times the group's "factor" if it has one.
        """

    @abstractmethod
    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a 0-based step."""

    @abstractmethod
    def batches(self, first_step: int) -> Iterator[Any]:
        """Yield the micro-batches of this process, from the 0-based `first_step` to the end of its epoch or of a later one.

        The loop calls it again if there are steps left. Going on over the end of an epoch keeps worker processes and what they have read.
        """

    @abstractmethod
    def loss(self, net: nn.Module, batch: Any) -> Tensor:
        """Return the mean loss of a micro-batch, a scalar. `net` is the model, wrapped for several processes and for the precision."""

    def weight(self, batch: Any) -> float:
        """Return how much of a micro-batch its mean loss covers, from 0 to 1.

        The loss of a step is the mean over its micro-batches with these weights, so that it does not depend on how the batch is divided.
        """
        return 1.0

    def stepped(self, step: int) -> None:  # noqa: B027, most tasks have nothing to do here
        """Do what the task has to do after each step of the optimiser. `step` is 0-based."""

    def metadata(self) -> dict[str, str]:
        """Return the header of a weight file of the model. Checkpoints store it too, unless they cannot be loaded as weights."""
        return {}

    @abstractmethod
    def evaluate(self) -> dict[str, Any] | None:
        """Evaluate the model on the validation images, and return the metrics in percent. None if there are no validation images.

        Each process evaluates its share of the images, and all return the same metrics.
        """

    def finish(self) -> None:  # noqa: B027, most tasks have nothing to do here
        """Do what the task has to do after the last step, before the network is saved."""

    @property
    @abstractmethod
    def data_in_words(self) -> str:
        """Numbers of training images and of classes, such as "9,469 images of 10 classes"."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the images that the user should read before the training starts, one line each."""
        return ()

    def findings(self) -> list[str]:
        """Return the results of the last evaluation as sentences, for the report."""
        return []

    def sections(self, pictures: int) -> list[Section]:
        """Return the sections of the report on the last evaluation, with up to this many pictures of each kind of validation image."""
        return []

    def write_predictions(self, folder: Path) -> None:  # noqa: B027, a task may have none to write
        """Write the predictions of the last evaluation to a file in the folder."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what the result file states besides the metrics: numbers of images, and digests of data and weights."""

    @abstractmethod
    def save(self, path: Path, training: dict[str, Any]) -> None:
        """Write the network as a weight file. `training` is the description of the training that the header of the file stores."""
