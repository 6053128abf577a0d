"""Opening images with boxes in each layout."""

from __future__ import annotations

from trickzoo.data.boxes import DetectionSet, detection_shapes
from trickzoo.data.location import AnnotatedLocation, Part, Splits, no_annotations, open_splits
from trickzoo.data.readers.coco import open_coco
from trickzoo.data.readers.voc import open_voc
from trickzoo.recipes.finetune import DetectionRecipe
from trickzoo.training.job import Machine

LAYOUTS = {"coco": "paper.detection.coco_fpn", "voc": "paper.detection.voc", "shapes": "shapes.detection"}
"""The layouts that have boxes, each with the recipe that is used if the user names none."""


def open_split(location: AnnotatedLocation, part: Part) -> DetectionSet:
    """Open the training or the validation images with their boxes.

    Raises BadData with what is wrong, BadOption for a layout without boxes.
    """
    split, year = location.split(part)
    if location.layout == "coco":
        return open_coco(location.root, split, **({"year": year} if year else {}))
    if location.layout == "voc":
        return open_voc(location.root, split, year=year)
    if location.layout == "shapes":
        return detection_shapes(location.shapes(part))
    raise no_annotations(location.layout, "detection", LAYOUTS)


def open_data(recipe: DetectionRecipe, location: AnnotatedLocation, machine: Machine) -> Splits[DetectionSet]:
    """Open training and validation images. Raises BadData if they do not belong together, and what `open_split` raises."""
    return open_splits(location, open_split)
