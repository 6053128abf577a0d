"""The results of `trickzoo predict`, a dictionary for each image, and the files that they are written to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trickzoo import result_files
from trickzoo.errors import BadData, TrickzooError, from_process

if TYPE_CHECKING:
    from trickzoo.data.picture import Picture

COLUMNS = {
    "classification": ("image", "rank", "class", "name", "probability"),
    "detection": ("image", "class", "score", "x0", "y0", "x1", "y1"),
    "segmentation": ("image", "class", "share"),
}
"""The columns of the CSV file of each task."""


def each(predicted: Callable[[Any], dict[str, Any]], items: Sequence[Any], workers: int) -> Iterator[dict[str, Any]]:
    """Yield what a function returns for each item, in order. Worker processes call it, or this process if there are none.

    Raises WorkerLost if a worker process dies, and a TrickzooError with the message of the one that the function raises.
    """
    from trickzoo.data.workers import computed, in_order
    from trickzoo.training.processes import keep_freed_memory

    if workers:
        keep_freed_memory()
    samples: Any = items  # a sequence serves as a torch Dataset
    for [(row, failure)] in computed(samples, in_order(len(items), 1), workers, partial(_rows, predicted), by_workers=True):
        if failure is not None:
            raise from_process(*failure)
        yield row


def _rows(predicted: Callable[[Any], dict[str, Any]], items: list[Any]) -> list[tuple[dict[str, Any], tuple[str, int] | None]]:
    """Return what a function returns for each item, or the message and the exit status of its error, which cannot be pickled."""
    from trickzoo.data.contents import SKIP  # only here, because it imports NumPy and Pillow

    found: list[tuple[dict[str, Any], tuple[str, int] | None]] = []
    for item in items:
        try:
            found.append((predicted(item), None))
        except TrickzooError as error:
            remedy = f"; {SKIP}" if isinstance(error, BadData) else ""  # an image that begins as one, and cannot be decoded
            found.append(({}, (f"{error}{remedy}", error.status)))
    return found


def of_image(image: Path, picture: Picture) -> dict[str, Any]:
    """Return the entries of the output that do not depend on the task: the path, and the EXIF orientation if the image was turned."""
    return {"image": str(image), **({"exif_orientation": picture.orientation} if picture.orientation > 1 else {})}


def turned(found: dict[str, Any]) -> str:
    return f" (turned upright, EXIF orientation {found['exif_orientation']})" if "exif_orientation" in found else ""


def write_csv(path: Path, task: str, found: Sequence[dict[str, Any]]) -> None:
    """Write a row for each class, box or class of a mask. Raises NotWritten if the operating system refuses."""
    result_files.write_csv(path, COLUMNS[task], _cells(task, found))


def _cells(task: str, found: Sequence[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    for row in found:
        if task == "classification":
            for rank, each in enumerate(row["top"], 1):
                yield row["image"], rank, each["class"], each["name"], f"{each['probability']:.6f}"
        elif task == "detection":
            for each in row["boxes"]:
                yield row["image"], each["class"], each["score"], *each["box"]
        else:
            yield from ((row["image"], name, share) for name, share in row["shares"].items())


def write_coco(path: Path, classes: Sequence[str], found: Sequence[dict[str, Any]]) -> None:
    """Write boxes as a COCO file of images, categories and annotations, each with its score. Raises NotWritten as `write_csv` does."""
    ids = {name: number for number, name in enumerate(classes, 1)}
    images = [
        {"id": number, "file_name": row["image"], "width": row["size"][0], "height": row["size"][1]} for number, row in enumerate(found, 1)
    ]
    annotations: list[dict[str, Any]] = []
    for image, row in enumerate(found, 1):
        for each in row["boxes"]:
            x0, y0, x1, y1 = each["box"]
            box = [x0, y0, round(x1 - x0, 1), round(y1 - y0, 1)]
            entry = {"image_id": image, "category_id": ids[each["class"]], "bbox": box, "area": round(box[2] * box[3], 2)}
            annotations.append({"id": len(annotations) + 1, **entry, "iscrowd": 0, "score": each["score"]})
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    result_files.write_json(path, {"images": images, "categories": categories, "annotations": annotations})
