"""Object detection on the zoo's backbones."""

from trickzoo.detection.evaluate import predict
from trickzoo.detection.model import faster_rcnn
from trickzoo.detection.task import load

__all__ = ["faster_rcnn", "load", "predict"]
