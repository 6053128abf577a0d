"""Exports of annotation tools whose form is recognised."""

from __future__ import annotations

from pathlib import Path

from trickzoo.data.boxes import DetectionSet
from trickzoo.data.exports import Export, only_export
from trickzoo.data.layouts import BOX_CONTENTS
from trickzoo.data.readers.coco import coco_exports
from trickzoo.data.readers.via import via_exports
from trickzoo.data.readers.voc_exports import voc_exports
from trickzoo.data.readers.yolo import yolo_exports


def box_exports(root: Path) -> list[Export]:
    """Return the exports with boxes that a folder contains, in any form."""
    return [*coco_exports(root), *voc_exports(root), *yolo_exports(root), *via_exports(root)]


def open_boxes(root: Path, split: str = "train") -> DetectionSet:
    """Open a split of the only export with boxes in a folder. Raises BadData if there is none or several, and as its reader does."""
    found: DetectionSet = only_export(root, box_exports(root), BOX_CONTENTS).open(root, split)
    return found
