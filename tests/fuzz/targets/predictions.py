"""Targets for files of predictions, which `trickzoo compare` reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.annotated import boxes_of
from tests.fuzz.check import Target
from tests.fuzz.inputs import NUMBERS, WORDS, documents, texts
from trickzoo.data.objects import Annotation
from trickzoo.detection import box_files, resampling
from trickzoo.detection.metrics import Detections, coco_results
from trickzoo.segmentation import count_files

DATA = boxes_of([[Annotation((1, 2, 9, 12), 1), Annotation((5, 5, 20, 20), 2)], [Annotation((1, 2, 9, 12), 2, difficult=True)], []], 2)
FOUND = {
    index: Detections(objects.boxes + 0.5, np.linspace(0.4, 0.9, len(objects)), objects.labels)
    for index, objects in ((index, DATA.objects_of(index)) for index in range(len(DATA)))
}
RESULTS, TRUTH = coco_results(DATA, FOUND), box_files.coco_annotations(DATA, FOUND)
COUNTS = "image,right,judged,intersection of a,union of a,intersection of b,union of b\nx.jpg,3,6,1,4,2,5\ny.jpg,9,9,9,9,0,0\n"


def prepare(folder: Path) -> None:
    """Write predicted boxes, and those to find."""
    box_files.write(folder / "predictions.json", DATA, FOUND)


def _judge(path: Path) -> None:
    matched = resampling.match(*box_files.read(path))
    resampling.average_precisions(matched, np.ones((1, len(matched[0].objects)), np.int64))


def predicted(content: bytes, folder: Path) -> None:
    """Predicted boxes."""
    (folder / "predictions.json").write_bytes(content)
    _judge(folder / "predictions.json")


def to_find(content: bytes, folder: Path) -> None:
    """The boxes to find."""
    (folder / "predictions.truth.json").write_bytes(content)
    _judge(folder / "predictions.json")


def counts(content: bytes, folder: Path) -> None:
    """The counts of images with masks."""
    (folder / "predictions.csv").write_bytes(content)
    count_files.mean_iou(count_files.read(folder / "predictions.csv"))


TARGETS = (
    Target("predicted boxes", documents(RESULTS), predicted, lambda: json.dumps(RESULTS).encode(), prepare),
    Target("boxes to find", documents(TRUTH), to_find, lambda: json.dumps(TRUTH).encode(), prepare),
    Target("counts of masks", texts(COUNTS, words=(*WORDS, *NUMBERS)), counts, COUNTS.encode),
)
