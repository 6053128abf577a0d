"""Opening images with boxes."""

from __future__ import annotations

from trickzoo.data.boxes import DetectionSet
from trickzoo.data.location import AnnotatedLocation, Part, Splits, open_splits
from trickzoo.recipes.finetune import DetectionRecipe
from trickzoo.training.machine import Machine


def open_split(location: AnnotatedLocation, part: Part) -> DetectionSet:
    """Open the training or the validation images with their boxes.

    Raises BadData if the folder does not have the layout, BadOption for a layout without boxes.
    """
    data: DetectionSet = location.open(DetectionRecipe.task, part)
    return data


def open_data(recipe: DetectionRecipe, location: AnnotatedLocation, machine: Machine) -> Splits[DetectionSet]:
    """Open training and validation images. Raises BadData as `open_splits` does, and what `open_split` raises."""
    return open_splits(location, DetectionRecipe.task)
