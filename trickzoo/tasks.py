"""The tasks that a network can be trained for, by name.

Each task is a package with the members of `TaskPackage`. A new task needs a package and a line in `PACKAGES`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from accelerate import Accelerator
from torch import nn

from trickzoo import result_files
from trickzoo.data.location import Splits
from trickzoo.errors import UnknownName
from trickzoo.recipes.collection import AnyRecipe
from trickzoo.training.annotated_evaluation import AnnotatedEvaluation
from trickzoo.training.job import Job, holds_finished
from trickzoo.training.machine import Machine
from trickzoo.training.task import Task

PACKAGES = {
    "classification": "trickzoo.classification",
    "detection": "trickzoo.detection",
    "segmentation": "trickzoo.segmentation",
}
ANNOTATED = ("detection", "segmentation")
"""The tasks whose images have boxes or masks. Their packages have the members of `AnnotatedTaskPackage`."""


class TaskPackage(Protocol):
    """The members that the package of every task has."""

    def open_data(self, recipe: Any, location: Any, machine: Machine) -> Splits[Any]:
        """Open the training and validation images. Raises BadData if they cannot be trained on."""

    def new_task(self, recipe: Any, data: Splits[Any], machine: Machine, accelerator: Accelerator) -> Task:
        """Build the network of a recipe, and the task that trains it. Raises a TrickzooError if the images do not fit the recipe."""

    def load(self, path: Path, **sides: int | None) -> nn.Module:
        """Load the network of a weight file that a training run of this task wrote, in evaluation mode.

        `sides` replace image sides of the recipe, in pixels. Raises BadCheckpoint if the file cannot be read, or is for another task.
        """


class AnnotatedTaskPackage(TaskPackage, Protocol):
    """The members that the packages of detection and segmentation also have."""

    @property
    def SIDES(self) -> tuple[str, ...]:
        """Names of the image sides that `load` can replace."""

    def evaluate_set(
        self,
        model: Any,
        data: Any,
        accelerator: Accelerator,
        *,
        workers: int = 0,
        predictions: Path | None = None,
        progress: Callable[[int], None] = lambda done: None,
    ) -> AnnotatedEvaluation:
        """Run a network on a set of images, each process on its share, and return the metrics, the same in all processes.

        Args:
            model: network, from `load`, or a function that predicts as `predict` of the package does for an RGB image, such as that of an
                exported file. This process calls the function for whole images.
            data: set of images; its classes are those of the model, in the same order.
            accelerator: device, precision and processes.
            workers: number of decoding processes.
            predictions: file or folder to which the predictions are written.
            progress: function that is called with the number of images that this process has just finished.
        """

    def check_predictions(self, path: Path) -> None:
        """Raise BadOption if `evaluate_set` cannot write its predictions to `path`, so that the error comes before the evaluation."""

    def compare(self, data: Any, index: int, models: Any) -> Any:
        """Return a caption and pictures of one image: one with its annotations, and one with the predictions of each network."""


def find_task(name: str) -> TaskPackage:
    """Return the package of a task. Raises UnknownName, which suggests similar names, if there is no such task."""
    if name not in PACKAGES:
        raise UnknownName("task", name, PACKAGES)
    return cast(TaskPackage, import_module(PACKAGES[name]))


def find_annotated_task(name: str) -> AnnotatedTaskPackage:
    """Return the package of detection or segmentation. Raises UnknownName for any other name."""
    if name not in ANNOTATED:
        raise UnknownName("task with annotated images", name, ANNOTATED)
    return cast(AnnotatedTaskPackage, find_task(name))


def prepare(recipe: AnyRecipe, location: Any, machine: Machine, data: Splits[Any] | None = None) -> Job:
    """Open the images, build the network, and return the training, ready to run.

    Args:
        recipe: recipe of the training; its `task` selects the package.
        location: location of the images: an `ImageLocation` for classification, otherwise an `AnnotatedLocation`.
        machine: settings of the training.
        data: training and validation images, if they are open already.

    Raises BadOption if the folder cannot be written and does not hold a finished training run, and another TrickzooError if the images do
    not fit the recipe.
    """
    if not holds_finished(machine.out):  # the result of a finished training run is only read
        result_files.check_folder(machine.out)
    package = find_task(recipe.task)
    accelerator = machine.accelerator(recipe.precision)
    splits = data or package.open_data(recipe, location, machine)
    task = package.new_task(recipe, splits, machine, accelerator)
    task.selected = splits.selected
    return Job(task, machine, accelerator, splits)
