"""Image classification on the zoo's backbones."""

from trickzoo.classification.model import load
from trickzoo.classification.open import open_data
from trickzoo.classification.task import new_task

__all__ = ["load", "new_task", "open_data"]
