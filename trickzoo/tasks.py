"""The tasks that a network can be trained for, by name.

Each task is a package, and each package has the members of `TaskPackage`. A new task is one more package, and one more line here.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from accelerate import Accelerator
from torch import nn

from trickzoo import evidence
from trickzoo.data.location import AnnotatedLocation, Part, Splits
from trickzoo.errors import UnknownName
from trickzoo.recipes.collection import AnyRecipe
from trickzoo.training import loop
from trickzoo.training.job import RESULT, Job, Machine

PACKAGES = {
    "classification": "trickzoo.classification",
    "detection": "trickzoo.detection",
    "segmentation": "trickzoo.segmentation",
}
ANNOTATED = ("detection", "segmentation")
"""The tasks whose images carry annotations of their own, and whose packages are `AnnotatedTaskPackage`."""


class TaskPackage(Protocol):
    """The members of the package of every task."""

    def open_data(self, recipe: Any, location: Any, machine: Machine) -> Splits[Any]:
        """Open training and validation images. Raises BadData if they cannot be used."""

    def new_task(self, recipe: Any, data: Splits[Any], machine: Machine, accelerator: Accelerator) -> loop.Task:
        """Build the network of a recipe, and the task that the training loop needs.

        Raises a TrickzooError if recipe and images do not match.
        """

    def load(self, path: Path, **sides: int | None) -> nn.Module:
        """Load the network from a weight file that a training of this task wrote, in evaluation mode."""


class AnnotatedTaskPackage(TaskPackage, Protocol):
    """The additional members of the packages of detection and segmentation."""

    @property
    def SIDES(self) -> tuple[str, ...]:
        """The names of the image sides in pixels that `load` can replace."""

    def open_split(self, location: AnnotatedLocation, part: Part) -> Any:
        """Open the images of one part with their annotations."""

    def evaluate_set(self, model: Any, data: Any, accelerator: Accelerator, **options: Any) -> evidence.Evaluation:
        """Run a network on a set, each process on its share of the images, and compute the metrics."""

    def check_predictions(self, path: Path) -> None:
        """Raise BadOption before the run if `evaluate_set` could not write its predictions to this path."""

    def compare(self, data: Any, index: int, models: Any) -> Any:
        """Return the beginning of a caption, and pictures of one image: with its annotation, and with the predictions of each network."""


def find_task(name: str) -> TaskPackage:
    """Return the package of a task. Raises UnknownName, with the nearest names, if there is no such task."""
    if name not in PACKAGES:
        raise UnknownName("task", name, PACKAGES)
    return cast(TaskPackage, import_module(PACKAGES[name]))


def find_annotated_task(name: str) -> AnnotatedTaskPackage:
    """Return the package of detection or segmentation. Raises UnknownName for any other name."""
    if name not in ANNOTATED:
        raise UnknownName("task with annotated images", name, ANNOTATED)
    return cast(AnnotatedTaskPackage, find_task(name))


def prepare(recipe: AnyRecipe, location: Any, machine: Machine, data: Splits[Any] | None = None) -> Job:
    """Build and check everything that a training needs.

    Args:
        recipe: the recipe; its `task` names the package.
        location: the location of the images: an `ImageLocation` for classification, otherwise an `AnnotatedLocation`.
        machine: devices, processes and the output folder of the training.
        data: the images, if they have been opened already.

    Raises a TrickzooError if the output folder cannot be written, or if images and recipe do not match.
    """
    if not (machine.out / RESULT).exists():  # a finished training is only read
        evidence.check_folder(machine.out)
    package = find_task(recipe.task)
    accelerator = machine.accelerator(recipe.precision)
    splits = data or package.open_data(recipe, location, machine)
    return Job(package.new_task(recipe, splits, machine, accelerator), machine, accelerator)
