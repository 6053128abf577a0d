"""Image classification on the zoo's backbones."""

from trickzoo.classification.open import open_data
from trickzoo.classification.task import load, new_task

__all__ = ["load", "new_task", "open_data"]
