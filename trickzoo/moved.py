"""Former names of modules that the API page has listed. Importing one still works, with a DeprecationWarning that names the new ones."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED: dict[str, tuple[str, ...]] = {
    "trickzoo.data.coco": ("trickzoo.data.readers.coco",),
    "trickzoo.data.detection": ("trickzoo.data.boxes",),
    "trickzoo.data.joint": ("trickzoo.data.annotated_transforms",),
    "trickzoo.data.segmentation": ("trickzoo.data.masks", "trickzoo.data.readers.ade20k", "trickzoo.data.readers.mask_lists"),
    "trickzoo.data.voc": ("trickzoo.data.readers.voc",),
    "trickzoo.detection.training": ("trickzoo.detection.task", "trickzoo.detection.evaluate"),
    "trickzoo.evaluation": (),
    "trickzoo.evaluation.classification": ("trickzoo.classification.metrics",),
    "trickzoo.evaluation.detection": ("trickzoo.detection.metrics",),
    "trickzoo.evaluation.segmentation": ("trickzoo.segmentation.metrics",),
    "trickzoo.importing": ("trickzoo.gluoncv",),
    "trickzoo.segmentation.training": ("trickzoo.segmentation.task", "trickzoo.segmentation.evaluate"),
    "trickzoo.weights.publish": ("trickzoo.weights.export",),
}
"""The modules that have the contents of each former module now."""


class Finder:
    """Finder and loader of the former modules, which Python consults only for modules without a file.

    It does not derive from the classes of `importlib.abc`, because importing these takes as long as importing this package.
    """

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the specification of a former module, None for any other name."""
        return ModuleSpec(fullname, self, is_package=not MOVED[fullname]) if fullname in MOVED else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Let Python create the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Let the module take its names from the new ones, when they are asked for."""
        homes = MOVED[module.__name__]
        if homes:
            warnings.warn(f"{module.__name__} is now {' and '.join(homes)}", DeprecationWarning, stacklevel=2)

        def find(name: str) -> Any:
            for home in homes:
                if hasattr(found := import_module(home), name):
                    return getattr(found, name)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        module.__getattr__ = find  # type: ignore[method-assign]


def install() -> None:
    """Make the former modules importable."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.append(Finder())
