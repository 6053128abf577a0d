"""Semantic segmentation on the zoo's backbones."""

from trickzoo.segmentation.fcn import fcn

__all__ = ["fcn"]
