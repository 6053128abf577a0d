"""Pictures of the predictions of several networks side by side, for a report."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from trickzoo.data.location import AnnotatedLocation
from trickzoo.tasks import find_annotated_task

GAP = 12
"""Pixels between pictures."""


def draw(task: str, location: AnnotatedLocation, networks: Sequence[tuple[str, Path]], n: int) -> list[tuple[str, bytes]]:
    """Return (caption, JPEG) for n annotated validation images: the annotation, then the prediction of each network (name, file)."""
    package = find_annotated_task(task)
    data = package.open_split(location, "val")
    models = [package.load(path) for _, path in networks]
    shown = _spread([index for index in range(len(data)) if data.is_annotated(index)], n)
    compared = [package.compare(data, index, models) for index in shown]
    found = ", and with ".join(name for name, _ in networks)
    return [(f"{what} as found with {found}.", _jpeg(views)) for what, views in compared]


def _spread(indices: list[int], n: int) -> list[int]:
    """Return n of the indices, evenly spaced, because neighbours in a set are often similar."""
    return [indices[i * len(indices) // n] for i in range(min(n, len(indices)))]


def _jpeg(views: Sequence[Image.Image]) -> bytes:
    """Return pictures in a row, aligned at the top, as one JPEG."""
    whole = Image.new("RGB", (sum(v.width for v in views) + GAP * (len(views) - 1), max(v.height for v in views)), "white")
    x = 0
    for view in views:
        whole.paste(view, (x, 0))
        x += view.width + GAP
    content = io.BytesIO()
    whole.save(content, "JPEG", quality=85)
    return content.getvalue()
