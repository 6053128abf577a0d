"""Average precision of detections: COCO's, computed by pycocotools, and VOC's in its two forms, which differ by several points.

Neither metric counts crowd and difficult objects as objects to find, and detections that match them are ignored, however many there are.

Both devkits treat the flag that they know in this way: VOCevaldet.m ignores every detection whose best match is a difficult object, and
pycocotools every detection whose best match is a crowd. Pycocotools does not know difficult objects, and overwrites the `ignore` of an
annotation with its `iscrowd`. Here it treats a difficult object as a crowd, with one difference: the overlap is in proportion to the union
of the two boxes, as for any other object, and not to the detection alone.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import ArrayLike, NDArray
from torchvision.ops import box_iou

from trickzoo.data.boxes import DetectionSet
from trickzoo.data.objects import Objects
from trickzoo.errors import BadCheckpoint, NotFinite

COCO_STATS = ("AP", "AP50", "AP75", "AP small", "AP medium", "AP large", "AR 1", "AR 10", "AR 100", "AR small", "AR medium", "AR large")
"""The summary metrics of pycocotools, in its order. AR n is the recall with n detections for each image."""


class Detections(NamedTuple):
    """The objects that a model finds in one image.

    Attributes:
        boxes: (m, 4) x0, y0, x1, y1 in pixels of the file, 0-based and half-open.
        scores: (m,) confidences, in 0…1 from a network of the zoo; a higher score is a more confident detection.
        labels: (m,) labels of the classes, from 1.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]


class NamedDetections(Detections):
    """The objects that a model finds in one image, with the names of their classes.

    Attributes:
        names: the name of each box's class. The name of label 1 is the first of the model's classes.
    """

    names: tuple[str, ...]


class DetectionEvaluation:
    """Collects the detections in a set, on one process or several, and evaluates them."""

    def __init__(self, data: DetectionSet) -> None:
        self.data = data
        self.found: dict[int, Detections] = {}

    def add(self, index: int, boxes: ArrayLike, scores: ArrayLike, labels: ArrayLike) -> None:
        """Add the detections in image `index`: (m, 4) boxes, (m,) scores and (m,) labels, as in `Detections`.

        Images that are never added are not judged. Tensors must be on the CPU.
        """
        self.found[index] = Detections(
            np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(scores, np.float64), np.asarray(labels, np.int64)
        )

    def gather(self) -> None:
        """Gather the detections of all processes. It must be called on all of them. An image that two processes evaluated counts once.

        Raises NotFinite, on all processes, if a box or a score is not finite, and BadCheckpoint if a label is not one of the set's.
        """
        self.found = dict(sorted(gather_object(list(self.found.items())), key=lambda item: item[0]))
        for index, (boxes, scores, labels) in self.found.items():
            if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
                raise NotFinite(f"the detections in {self.data.images[index].name} are not finite; the weights are damaged")
            if len(labels) and not (labels.min() >= 1 and labels.max() <= len(self.data.classes)):
                raise BadCheckpoint(
                    f"the model finds labels from {labels.min()} to {labels.max()} in {self.data.images[index].name}; "
                    f"the data has 1 to {len(self.data.classes)}: it was trained for different classes"
                )

    def summary(self) -> dict[str, Any]:
        """Return COCO's twelve metrics and VOC's mean AP in both forms, in percent, or None for a metric without objects.

        `gather` must be called first.
        """
        coco, voc = coco_average_precision(self.data, self.found), voc_average_precision(self.data, self.found)
        return {
            "n": len(self.found),
            "coco": {name: _percent(value) for name, value in coco.stats.items()},
            "voc": {"AP50 11-point": _percent(_mean(voc.eleven_point)), "AP50 all-point": _percent(_mean(voc.all_point))},
            "per_class": {
                name: {
                    "COCO AP": _percent(coco.per_class[i]),
                    "VOC AP50 11-point": _percent(voc.eleven_point[i]),
                    "VOC AP50 all-point": _percent(voc.all_point[i]),
                }
                for i, name in enumerate(self.data.classes)
            },
        }


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else np.nan


def _percent(value: float) -> float | None:
    return None if np.isnan(value) else round(100 * float(value), 4)


# ---------------------------------------------------------------------------------------------------------------------
# VOC


@dataclass(frozen=True)
class VocPrecision:
    """The average precision of each class, in 0…1, or NaN for a class without objects.

    Attributes:
        eleven_point: (K,) mean of the best precision at recalls of 0, 0.1 … 1, as in VOC 2007.
        all_point: (K,) area under the monotonic precision-recall curve, as in VOC 2010 and later.
    """

    eleven_point: NDArray[np.float64]
    all_point: NDArray[np.float64]


def voc_average_precision(data: DetectionSet, found: Mapping[int, Detections], *, overlap: float = 0.5) -> VocPrecision:
    """Compute average precision as VOC's devkit does (VOCevaldet.m), over the images in `found`. `overlap` is an IoU in 0…1.

    `found` has the detections in each image by its index in `data.images`.

    Detections are matched in the order of decreasing scores, each to the object of its class with the largest overlap. A detection is
    correct if the overlap is at least `overlap` and no earlier detection matched the object. It is ignored if the object is difficult or a
    crowd. Otherwise it is a false positive. Of detections with equal scores, the one in the earlier image comes first.
    """
    labels, right, positives = _judge_all(data, found, overlap)
    curves = [_precision(right[labels == label], int(positives[label])) for label in range(1, len(positives))]
    eleven_point, all_point = np.array(curves, np.float64).reshape(-1, 2).T
    return VocPrecision(eleven_point, all_point)


def _judge_all(data: DetectionSet, found: Mapping[int, Detections], overlap: float) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Return labels and correctness of all detections that are not ignored, by falling score, and the number of objects of each label."""
    positives = np.zeros(len(data.classes) + 1, np.int64)
    rows = []
    for index in sorted(found):
        objects = data.objects_of(index)
        positives += np.bincount(objects.labels[objects.plain], minlength=len(positives))
        rows.append(_judge(objects, found[index], overlap))
    labels, scores, right = (np.concatenate(column) for column in zip(*rows, strict=True)) if rows else np.zeros((3, 0))
    order = np.argsort(-scores, kind="stable")
    return labels[order], right[order], positives


def _judge(objects: Objects, found: Detections, overlap: float) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the labels, the scores, and the correctness of the detections in an image that are not ignored."""
    order = np.argsort(-found.scores, kind="stable")
    boxes, scores, labels = found.boxes[order], found.scores[order], found.labels[order]
    right, counts = np.zeros(len(labels), bool), np.ones(len(labels), bool)
    if len(objects) and len(labels):
        ratio = np.where(labels[:, None] == objects.labels, intersection_over_union(boxes, objects.boxes), -1)
        best, plain, taken = ratio.argmax(1), objects.plain, np.zeros(len(objects), bool)
        for i in np.flatnonzero(ratio.max(1) >= overlap):
            counts[i] = plain[best[i]]
            right[i] = counts[i] and not taken[best[i]]
            taken[best[i]] = True
    return labels[counts], scores[counts], right[counts]


def intersection_over_union(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (m, n) intersections over union, in 0…1, of (m, 4) and (n, 4) boxes. It is 0 for two boxes without area."""
    return np.nan_to_num(box_iou(torch.from_numpy(first), torch.from_numpy(second)).numpy())


def _precision(right: NDArray[np.bool_], positives: int) -> tuple[float, float]:
    """Return the 11-point and the all-point average precision of detections that are sorted by falling score."""
    if not positives:
        return np.nan, np.nan
    hits = right.cumsum()
    best = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]  # precision at this recall or any higher
    # recall ≥ k / 10 is compared in whole numbers, because in floating point 3 / 10 is not 3 × 0.1
    eleven = [best[np.argmax(10 * hits >= k * positives)] if len(hits) and 10 * hits[-1] >= k * positives else 0.0 for k in range(11)]
    return float(np.mean(eleven)), float(best[right].sum() / positives)


# ---------------------------------------------------------------------------------------------------------------------
# COCO


@dataclass(frozen=True)
class CocoPrecision:
    """COCO's metrics in 0…1, or NaN for a metric without objects.

    Attributes:
        stats: the metrics by their names in `COCO_STATS`.
        per_class: (K,) AP of each class.
    """

    stats: dict[str, float]
    per_class: NDArray[np.float64]


def coco_average_precision(data: DetectionSet, found: Mapping[int, Detections]) -> CocoPrecision:
    """Compute average precision with pycocotools, over the images in `found`. What pycocotools prints is suppressed.

    `found` has the detections in each image by its index in `data.images`.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _evaluation(data, found)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # overlap, recall, class; all areas, the most detections
    per_class = np.where((precision > -1).any((0, 1)), precision.mean((0, 1)), np.nan)
    return CocoPrecision({name: float(v) if v > -1 else np.nan for name, v in zip(COCO_STATS, evaluation.stats, strict=True)}, per_class)


def coco_matches(data: DetectionSet, found: Mapping[int, Detections]) -> list[list[dict[str, Any] | None]]:
    """Return what pycocotools matches in each of the images in `found`, sorted by their index, for each class.

    It is None for an image with neither objects nor detections of the class. Objects of all sizes count, and up to 100 detections.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _evaluation(data, found)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], evaluation.params.areaRngLbl[:1]
        evaluation.evaluate()
    n = len(found)
    return [evaluation.evalImgs[n * k : n * (k + 1)] for k in range(len(data.classes))]


def _evaluation(data: DetectionSet, found: Mapping[int, Detections]) -> Any:
    """Return pycocotools' evaluation of these detections, which has not matched them yet."""
    truth, results = [], []
    for index in sorted(found):
        objects = data.objects_of(index)
        columns = (objects.labels, objects.areas, objects.crowd.astype(int), objects.difficult.astype(int))
        for box, label, area, crowd, difficult in zip(sides(objects.boxes), *(column.tolist() for column in columns), strict=True):
            truth.append({"image_id": index, "category_id": label, "bbox": box, "area": area, "iscrowd": crowd, "difficult": difficult})
        for box, score, label in zip(sides(found[index].boxes), found[index].scores.tolist(), found[index].labels.tolist(), strict=True):
            results.append({"image_id": index, "category_id": label, "bbox": box, "area": box[2] * box[3], "score": score, "iscrowd": 0})
    return _evaluator()(_coco(data, found, truth), _coco(data, found, results), "bbox")


@functools.cache
def _evaluator() -> Any:
    from pycocotools.cocoeval import COCOeval

    class Evaluation(COCOeval):
        """COCO's evaluation, which ignores all detections that match a difficult object."""

        def computeIoU(self, imgId: int, catId: int) -> Any:
            """Return the overlaps.

            Difficult objects are marked as crowds only afterwards, so that the mark does not change the overlaps.
            """
            overlaps = super().computeIoU(imgId, catId)
            for truth in self._gts[imgId, catId]:
                truth["iscrowd"] = truth["ignore"] = truth["iscrowd"] or truth["difficult"]
            return overlaps

    return Evaluation


def sides(boxes: NDArray[np.float64]) -> list[list[float]]:
    """Convert (n, 4) corners to COCO's x, y, width, height."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).tolist()


def _coco(data: DetectionSet, found: Mapping[int, Detections], annotations: list[dict[str, Any]]) -> Any:
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        "images": [{"id": index} for index in found],
        "categories": [{"id": label} for label in range(1, len(data.classes) + 1)],
        "annotations": [{**annotation, "id": number} for number, annotation in enumerate(annotations, 1)],  # an id of 0 means no match
    }
    coco.createIndex()
    return coco


def coco_results(data: DetectionSet, found: Mapping[int, Detections]) -> list[dict[str, Any]]:
    """Return the detections in COCO's results format, with the source's own ids of images and classes.

    `found` has the detections in each image by its index in `data.images`. Boxes are x, y, width and height in pixels.
    """
    return [
        {"image_id": data.images[index].id, "category_id": data.class_ids[label - 1], "bbox": box, "score": score}
        for index, (boxes, scores, labels) in sorted(found.items())
        for box, score, label in zip(sides(boxes), scores.tolist(), labels.tolist(), strict=True)
    ]
