"""Validation images as networks see them, side by side, for a report."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from trickzoo import detection, drawing, segmentation
from trickzoo.data.boxes import DetectionSet
from trickzoo.data.masks import SegmentationSet

GAP = 12
"""Pixels between pictures."""


def detections(data: DetectionSet, networks: Sequence[tuple[str, Path]], n: int) -> list[tuple[str, bytes]]:
    """Caption and JPEG of n images with objects: as annotated, then with as many boxes, the surest of each detector, (name, file)."""
    detectors = [detection.load(path) for _, path in networks]
    found = []
    for index in _spread([i for i in range(len(data)) if len(data.objects_of(i))], n):
        image, truth = data.read(index), data.objects_of(index)
        views = [drawing.draw_boxes(image, truth.boxes, truth.labels, data.classes)]
        for model in detectors:
            boxes, scores, labels = (each[: len(truth)] for each in detection.predict(model, image))
            views.append(drawing.draw_boxes(image, boxes, labels, data.classes, scores))
        what = f"Boxes in {data.images[index].name}: as annotated, then as many of the surest, with their scores,"
        found.append((_caption(what, networks), _jpeg(views)))
    return found


def segmentations(data: SegmentationSet, networks: Sequence[tuple[str, Path]], n: int) -> list[tuple[str, bytes]]:
    """Caption and JPEG of n images: as annotated, then as each segmenter, (name, file), sees them."""
    segmenters = [segmentation.load(path) for _, path in networks]
    found = []
    for index in _spread(list(range(len(data))), n):
        image, truth = data.read(index)
        masks = [truth, *(segmentation.predict(model, image) for model in segmenters)]
        views = [drawing.draw_mask(image, mask, data.classes) for mask in masks]
        found.append((_caption(f"Classes of the pixels in {data.pairs[index][0]}: as annotated, then", networks), _jpeg(views)))
    return found


def _spread(indices: list[int], n: int) -> list[int]:
    """Some of them, evenly: neighbours in a set are often alike."""
    return [indices[i * len(indices) // n] for i in range(min(n, len(indices)))]


def _caption(what: str, networks: Sequence[tuple[str, Path]]) -> str:
    return f"{what} as found with {', and with '.join(name for name, _ in networks)}."


def _jpeg(views: Sequence[Image.Image]) -> bytes:
    """Pictures of one width in a row, tops in line."""
    whole = Image.new("RGB", (sum(v.width for v in views) + GAP * (len(views) - 1), max(v.height for v in views)), "white")
    x = 0
    for view in views:
        whole.paste(view, (x, 0))
        x += view.width + GAP
    content = io.BytesIO()
    whole.save(content, "JPEG", quality=85)
    return content.getvalue()
