"""Opening images with masks in each layout."""

from __future__ import annotations

from trickzoo.data.location import AnnotatedLocation, Part, Splits, no_annotations, open_splits
from trickzoo.data.masks import SegmentationSet, segmentation_shapes
from trickzoo.data.readers.ade20k import open_ade20k
from trickzoo.data.readers.mask_lists import open_lists
from trickzoo.data.readers.voc import open_voc_masks
from trickzoo.recipes.finetune import SegmentationRecipe
from trickzoo.training.job import Machine

LAYOUTS = {
    "voc": "paper.segmentation.voc",
    "ade20k": "paper.segmentation.ade20k",
    "lists": "small.segmentation",
    "shapes": "shapes.segmentation",
}
"""The layouts that have masks, each with the recipe that is used if the user names none."""


def open_split(location: AnnotatedLocation, part: Part) -> SegmentationSet:
    """Open the training or the validation images with their masks.

    Raises BadData with what is wrong, BadOption for a layout without masks.
    """
    split, year = location.split(part)
    if location.layout == "voc":
        return open_voc_masks(location.root, split, year=year)
    if location.layout == "ade20k":
        return open_ade20k(location.root, split)
    if location.layout == "lists":
        return open_lists(location.root, split)
    if location.layout == "shapes":
        return segmentation_shapes(location.shapes(part))
    raise no_annotations(location.layout, "segmentation", LAYOUTS)


def open_data(recipe: SegmentationRecipe, location: AnnotatedLocation, machine: Machine) -> Splits[SegmentationSet]:
    """Open training and validation images. Raises BadData if they do not belong together, and what `open_split` raises."""
    return open_splits(location, open_split)
