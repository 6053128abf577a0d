"""Object detection on the zoo's backbones."""

from trickzoo.detection.faster_rcnn import faster_rcnn

__all__ = ["faster_rcnn"]
