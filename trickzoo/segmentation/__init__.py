"""Semantic segmentation on the zoo's backbones."""

from trickzoo.segmentation.evaluate import predict
from trickzoo.segmentation.model import fcn
from trickzoo.segmentation.task import load

__all__ = ["fcn", "load", "predict"]
