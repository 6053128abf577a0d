"""Pictures of the predictions of several networks side by side, for a report."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from trickzoo.data.location import AnnotatedLocation, open_splits
from trickzoo.data.selection import Selection
from trickzoo.tasks import find_annotated_task


@dataclass(frozen=True)
class Example:
    """A validation image with what is annotated and what networks predict: `views` are (what is drawn, PNG or JPEG file)."""

    caption: str
    views: tuple[tuple[str, bytes], ...]


def draw(task: str, location: AnnotatedLocation, networks: Sequence[tuple[str, Path]], n: int) -> list[Example]:
    """Return n annotated validation images: the annotation, then the prediction of each network (name, file)."""
    package = find_annotated_task(task)
    data = location.open(task, "val") if location.selection == Selection() else open_splits(location, task).val
    models = [package.load(path) for _, path in networks]
    shown = _spread([index for index in range(len(data)) if data.is_annotated(index)], n)
    names = ("as annotated", *(name for name, _ in networks))
    found = []
    for index in shown:
        caption, views = package.compare(data, index, models)
        found.append(Example(caption, tuple((name, _jpeg(view)) for name, view in zip(names, views, strict=True))))
    return found


def _spread(indices: list[int], n: int) -> list[int]:
    """Return n of the indices, evenly spaced, because neighbours in a set are often similar."""
    return [indices[i * len(indices) // n] for i in range(min(n, len(indices)))]


def _jpeg(view: Image.Image) -> bytes:
    content = io.BytesIO()
    view.save(content, "JPEG", quality=85)
    return content.getvalue()
