"""Semantic segmentation on the zoo's backbones."""

from trickzoo.segmentation.evaluate import compare, evaluate_set, predict
from trickzoo.segmentation.model import fcn, segmenter
from trickzoo.segmentation.open import open_data, open_split
from trickzoo.segmentation.predictions import check_predictions
from trickzoo.segmentation.task import SIDES, load, new_task
from trickzoo.training.network_file import save

__all__ = [
    "SIDES",
    "check_predictions",
    "compare",
    "evaluate_set",
    "fcn",
    "load",
    "new_task",
    "open_data",
    "open_split",
    "predict",
    "save",
    "segmenter",
]
