"""Opening images with boxes."""

from __future__ import annotations

from trickzoo.data.boxes import DetectionSet
from trickzoo.data.location import AnnotatedLocation, Part, Splits, open_splits
from trickzoo.recipes.finetune import DetectionRecipe
from trickzoo.training.job import Machine


def open_split(location: AnnotatedLocation, part: Part) -> DetectionSet:
    """Open the training or the validation images with their boxes.

    Raises BadData with what is wrong, BadOption for a layout without boxes.
    """
    data: DetectionSet = location.open(DetectionRecipe.task, part)
    return data


def open_data(recipe: DetectionRecipe, location: AnnotatedLocation, machine: Machine) -> Splits[DetectionSet]:
    """Open training and validation images. Raises BadData if they do not belong together, and what `open_split` raises."""
    return open_splits(location, DetectionRecipe.task)
