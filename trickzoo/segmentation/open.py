"""Opening images with masks."""

from __future__ import annotations

from trickzoo.data.location import AnnotatedLocation, Part, Splits, open_splits
from trickzoo.data.masks import SegmentationSet
from trickzoo.recipes.finetune import SegmentationRecipe
from trickzoo.training.machine import Machine


def open_split(location: AnnotatedLocation, part: Part) -> SegmentationSet:
    """Open the training or the validation images with their masks.

    Raises BadData if the folder does not have the layout, BadOption for a layout without masks.
    """
    data: SegmentationSet = location.open(SegmentationRecipe.task, part)
    return data


def open_data(recipe: SegmentationRecipe, location: AnnotatedLocation, machine: Machine) -> Splits[SegmentationSet]:
    """Open training and validation images. Raises BadData as `open_splits` does, and what `open_split` raises."""
    return open_splits(location, SegmentationRecipe.task)
