"""Object detection on the zoo's backbones."""

from trickzoo.detection.faster_rcnn import faster_rcnn
from trickzoo.detection.task import load, predict

__all__ = ["faster_rcnn", "load", "predict"]
