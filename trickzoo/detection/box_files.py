"""Files of predicted boxes: COCO's results format, and beside them the boxes to find, so that they can be judged without the images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from trickzoo.data.boxes import DetectionSet
from trickzoo.data.objects import within_reach
from trickzoo.data.readers.coco import read_annotations
from trickzoo.data.readers.coco_file import DAMAGED, Id, identity
from trickzoo.detection.metrics import Detections, coco_results, sides
from trickzoo.errors import BadData
from trickzoo.files import read_regular
from trickzoo.result_files import write_json


class _Result(msgspec.Struct, gc=False):
    image_id: Id
    category_id: Id
    bbox: tuple[float, float, float, float]
    score: float


def truth_beside(path: Path) -> Path:
    """Return the path of the file of the boxes to find: `boxes.truth.json` beside `boxes.json`."""
    return path.with_name(f"{path.stem}.truth.json")


def write(path: Path, data: DetectionSet, found: Mapping[int, Detections]) -> None:
    """Write detections to a JSON file in COCO's results format, and beside it the annotations of the same images, in COCO's format.

    Images and classes have the source's own ids. Raises NotWritten if a file cannot be written.
    """
    write_json(truth_beside(path), coco_annotations(data, found))
    write_json(path, coco_results(data, found))


def coco_annotations(data: DetectionSet, found: Mapping[int, Detections]) -> dict[str, Any]:
    """Return the objects of the images that were judged in COCO's format. Difficult objects have `"ignore": 1`."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in sorted(found):
        name, number, width, height = data.images[index]
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        objects = data.objects_of(index)
        columns = (each.tolist() for each in (objects.labels, objects.areas, objects.crowd.astype(int), objects.difficult.astype(int)))
        for box, label, area, crowd, difficult in zip(sides(objects.boxes), *columns, strict=True):
            annotation = {"id": len(annotations) + 1, "image_id": number, "category_id": data.class_ids[label - 1]}
            annotations.append(annotation | {"bbox": box, "area": area, "iscrowd": crowd, "ignore": difficult})
    categories = [{"id": number, "name": name} for number, name in zip(data.class_ids, data.classes, strict=True)]
    return {"images": images, "annotations": annotations, "categories": categories}


def read(path: Path) -> tuple[DetectionSet, dict[int, Detections]]:
    """Return the images with the boxes to find, without their pixels, and the detections in each image of a file that `write` wrote.

    Raises BadData if one of the two files is missing or damaged.
    """
    remedy = "name the folder of a training run, or a file that --predictions wrote"
    try:
        rows = msgspec.json.decode(read_regular(path), type=list[_Result])
    except OSError as error:
        raise BadData(f"{path} cannot be read ({error.strerror}); {remedy}") from None
    except DAMAGED as error:
        raise BadData(f"{path} is not in COCO's results format ({error or type(error).__name__}); {remedy}") from None
    truth = truth_beside(path)
    if not truth.is_file():
        raise BadData(f"{truth}, the annotated boxes, does not exist; evaluate again with --predictions, which writes it")
    data = read_annotations(truth)
    index_of, label_of = {image.id: i for i, image in enumerate(data.images)}, {number: i for i, number in enumerate(data.class_ids, 1)}
    found: dict[int, list[_Result]] = {index: [] for index in range(len(data))}
    labels: dict[int, list[int]] = {index: [] for index in range(len(data))}
    for place, row in enumerate(rows, 1):
        where = f"{path}: box {place}"
        image, category = identity(row.image_id, where), identity(row.category_id, where)
        if image not in index_of or category not in label_of:
            raise BadData(f"{where} names image {image!r} and category {category!r}, which are not both in {truth}; evaluate again")
        within_reach(row.bbox, where)
        found[index_of[image]].append(row)
        labels[index_of[image]].append(label_of[category])
    return data, {index: _detections(each, labels[index]) for index, each in found.items()}


def _detections(rows: list[_Result], labels: list[int]) -> Detections:
    boxes = np.array([row.bbox for row in rows], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Detections(boxes, np.array([row.score for row in rows], np.float64), np.array(labels, np.int64))
