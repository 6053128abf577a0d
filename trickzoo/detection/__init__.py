"""Object detection on the zoo's backbones."""

from trickzoo.detection.evaluate import compare, evaluate_set, predict
from trickzoo.detection.model import faster_rcnn
from trickzoo.detection.task import SIDES, load, new_task, save
from trickzoo.result_files import check_writable as check_predictions
from trickzoo.training.annotated_task import open_data

__all__ = [
    "SIDES",
    "check_predictions",
    "compare",
    "evaluate_set",
    "faster_rcnn",
    "load",
    "new_task",
    "open_data",
    "predict",
    "save",
]
