"""Semantic segmentation on the zoo's backbones."""

from trickzoo.segmentation.fcn import fcn
from trickzoo.segmentation.task import load, predict

__all__ = ["fcn", "load", "predict"]
