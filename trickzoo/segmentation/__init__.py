"""Semantic segmentation on the zoo's backbones."""

from trickzoo.segmentation.evaluate import compare, evaluate_set, predict
from trickzoo.segmentation.model import fcn, segmenter
from trickzoo.segmentation.predictions import check_predictions
from trickzoo.segmentation.task import SIDES, load, new_task, save
from trickzoo.training.annotated_task import open_data

__all__ = [
    "SIDES",
    "check_predictions",
    "compare",
    "evaluate_set",
    "fcn",
    "load",
    "new_task",
    "open_data",
    "predict",
    "save",
    "segmenter",
]
