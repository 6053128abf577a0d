"""Semantic segmentation on the zoo's backbones."""

from trickzoo.segmentation.fcn import fcn
from trickzoo.segmentation.training import load, predict

__all__ = ["fcn", "load", "predict"]
