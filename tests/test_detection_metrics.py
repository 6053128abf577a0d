"""Average precision against implementations of its definition that share nothing with ours, cases done by hand, and pycocotools itself."""

from __future__ import annotations

import contextlib
import io
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.annotated import boxes_of, coco
from tests.processes import together
from trickzoo import detection
from trickzoo.data.boxes import DetectionSet, detection_shapes
from trickzoo.data.masks import segmentation_shapes
from trickzoo.data.objects import Annotation
from trickzoo.data.readers.coco import open_coco
from trickzoo.data.shapes import Shapes
from trickzoo.detection.metrics import (
    COCO_STATS,
    DetectionEvaluation,
    Detections,
    coco_average_precision,
    coco_results,
    voc_average_precision,
)
from trickzoo.errors import BadCheckpoint
from trickzoo.segmentation.metrics import ConfusionMatrix
from trickzoo.training.processes import processes

CLASSES = 3
ONE = pytest.approx(1, abs=1e-12)
"""Pycocotools adds a tiny number to what it divides by."""

Box = tuple[int, int, int, int]
Found = list[tuple[Box, int, float]]


def found(rows: Found) -> Detections:
    return Detections(
        np.array([row[0] for row in rows], float).reshape(-1, 4),
        np.array([row[2] for row in rows], float),
        np.array([row[1] for row in rows], int),
    )


# ---------------------------------------------------------------------------------------------------------------------
# VOC by its definition, in fractions


def overlap(a: Box, b: Box) -> Fraction:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return Fraction(0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return Fraction(width * height, sum(areas) - width * height)


def reference(truth: list[list[Annotation]], detections: list[Found], label: int) -> tuple[float, float] | None:
    """VOCevaldet.m line by line: 11-point and all-point AP; None without an object to find."""
    objects = [[(a.box, a.difficult) for a in image if a.label == label] for image in truth]
    wanted = sum(not difficult for image in objects for _, difficult in image)
    if not wanted:
        return None
    queue = [(-score, i, j, box) for i, image in enumerate(detections) for j, (box, which, score) in enumerate(image) if which == label]
    used: set[tuple[int, int]] = set()
    points, right, wrong = [], 0, 0
    for _, i, _, box in sorted(queue):
        most, match = Fraction(0), None
        for k, (other, _) in enumerate(objects[i]):
            if overlap(box, other) > most:  # type: ignore[arg-type]
                most, match = overlap(box, other), k  # type: ignore[arg-type]
        if match is not None and most >= Fraction(1, 2):
            if objects[i][match][1]:
                continue
            if (i, match) in used:
                wrong += 1
            else:
                right += 1
                used.add((i, match))
        else:
            wrong += 1
        points.append((Fraction(right, wanted), Fraction(right, right + wrong)))
    eleven = sum(max((p for r, p in points if r >= Fraction(k, 10)), default=Fraction(0)) for k in range(11)) / 11
    recalls = [Fraction(0), *(r for r, _ in points), Fraction(1)]
    precisions = [Fraction(0), *(p for _, p in points), Fraction(0)]
    for k in range(len(precisions) - 2, -1, -1):
        precisions[k] = max(precisions[k], precisions[k + 1])
    area = sum((recalls[k] - recalls[k - 1]) * precisions[k] for k in range(1, len(recalls)))
    return float(eleven), float(area)


def boxes() -> st.SearchStrategy[Box]:
    """On a coarse grid, so that overlaps of exactly a half, duplicates and ties are frequent."""
    side, place = st.integers(1, 4), st.integers(0, 4)
    return st.builds(lambda x, y, w, h: (x, y, x + w, y + h), place, place, side, side)


ANNOTATIONS = st.builds(lambda box, label, difficult: Annotation(box, label, difficult), boxes(), st.integers(1, CLASSES), st.booleans())
DETECTIONS = st.tuples(boxes(), st.integers(1, CLASSES), st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.9]))
IMAGES = st.lists(st.tuples(st.lists(ANNOTATIONS, max_size=6), st.lists(DETECTIONS, max_size=8)), min_size=1, max_size=4)


@settings(deadline=None, max_examples=300)
@given(images=IMAGES)
def test_voc_ap_as_defined(images):
    truth, detections = [image for image, _ in images], [image for _, image in images]
    mine = voc_average_precision(boxes_of(truth, CLASSES), dict(enumerate(map(found, detections))))
    for label in range(1, CLASSES + 1):
        wanted = reference(truth, detections, label)
        got = mine.eleven_point[label - 1], mine.all_point[label - 1]
        if wanted is None:
            assert np.isnan(got).all()
        else:
            assert got == pytest.approx(wanted, abs=1e-12)


def test_voc_ap_by_hand():
    """Four objects to find and a difficult one. Right, wrong, on the difficult one, a second on the first, right: precision 1 to a
    recall of 1/4 and 1/2 to 1/2. Eleven points: three of 1 and three of 1/2; area: 1/4 · 1 + 1/4 · 1/2.
    """
    places = [(0, 0, 4, 4), (10, 0, 14, 4), (20, 0, 24, 4), (30, 0, 34, 4)]
    truth = [[*(Annotation(box, 1) for box in places), Annotation((0, 10, 4, 14), 1, difficult=True)]]
    rows: Found = [(places[1], 1, 0.5), ((0, 0, 4, 5), 1, 0.6), ((0, 10, 4, 15), 1, 0.7), ((20, 20, 24, 24), 1, 0.8), (places[0], 1, 0.9)]
    mine = voc_average_precision(boxes_of(truth, 1), {0: found(rows)})
    assert mine.eleven_point.tolist() == pytest.approx([4.5 / 11])
    assert mine.all_point.tolist() == pytest.approx([0.375])


def test_a_recall_of_three_tenths_reaches_the_fourth_point():
    places = [(3 * i, 0, 3 * i + 2, 2) for i in range(10)]
    truth = [[Annotation(box, 1) for box in places]]
    mine = voc_average_precision(boxes_of(truth, 1), {0: found([(box, 1, 0.5) for box in places[:3]])})
    assert mine.eleven_point.tolist() == pytest.approx([4 / 11])
    assert mine.all_point.tolist() == pytest.approx([0.3])


def test_an_overlap_of_exactly_a_half_is_enough():
    truth = boxes_of([[Annotation((0, 0, 4, 4), 1)]], 1)
    for bottom, right in ((2, 1), (1.999, 0)):
        detections = {0: Detections(np.array([[0, 0, 4, bottom]]), np.array([0.5]), np.array([1]))}
        assert voc_average_precision(truth, detections).all_point.tolist() == [right]


def test_images_without_detections_or_objects():
    truth = boxes_of([[Annotation((0, 0, 4, 4), 1)], []], 2)
    assert voc_average_precision(truth, {0: found([]), 1: found([])}).all_point.tolist()[0] == 0
    assert voc_average_precision(truth, {}).eleven_point.shape == (2,)
    evaluation = DetectionEvaluation(truth)
    evaluation.add(1, [], [], [])
    evaluation.gather()
    summary = evaluation.summary()
    assert summary["n"] == 1
    assert summary["voc"] == {"AP50 11-point": None, "AP50 all-point": None} and summary["coco"]["AP"] is None
    evaluation.add(0, [], [], [])
    evaluation.gather()
    summary = evaluation.summary()
    assert summary["voc"] == {"AP50 11-point": 0, "AP50 all-point": 0} and summary["coco"]["AP"] == 0
    json.dumps(summary, allow_nan=False)


# ---------------------------------------------------------------------------------------------------------------------
# COCO


def by_hand(annotations: Path, results: list[dict[str, Any]]) -> list[float]:
    """What pycocotools says of the files, as its demo does it."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


def ground_truth(data: DetectionSet) -> dict[int, Detections]:
    objects = [data.objects_of(index).take(data.objects_of(index).plain) for index in range(len(data))]
    return {i: Detections(each.boxes, np.linspace(0.9, 0.8, len(each)), each.labels) for i, each in enumerate(objects)}


def shaken(data: DetectionSet, seed: int) -> dict[int, Detections]:
    """The truth moved, some of it twice or under another label, with scores of one decimal, and noise."""
    rng = np.random.default_rng(seed)
    out = {}
    for index, image in enumerate(data.images):
        objects = data.objects_of(index)
        which = rng.integers(0, max(len(objects), 1), 2 * len(objects))
        boxes = objects.boxes[which] + rng.normal(0, 2, (len(which), 4))
        boxes = np.concatenate([boxes, rng.uniform(0, [image.width / 2, image.height / 2, image.width, image.height], (3, 4))])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        labels = np.concatenate([objects.labels[which], rng.integers(1, len(data.classes) + 1, 3)])
        labels = np.where(rng.random(len(labels)) < 0.1, rng.integers(1, len(data.classes) + 1, len(labels)), labels)
        out[index] = Detections(boxes, rng.random(len(labels)).round(1), labels)
    return out


def same(mine: dict[str, float], theirs: list[float]) -> None:
    assert list(mine) == list(COCO_STATS)
    assert [-1 if np.isnan(value) else value for value in mine.values()] == pytest.approx(theirs, abs=1e-12)


def test_coco_ap_of_the_truth_is_one(tmp_path):
    data = open_coco(coco(tmp_path))
    result = coco_average_precision(data, ground_truth(data))
    assert result.stats["AP"] == ONE and result.stats["AR 100"] == ONE
    assert result.per_class.tolist() == [ONE, ONE]
    evaluation = DetectionEvaluation(data)
    for index, detections in ground_truth(data).items():
        evaluation.add(index, *detections)
    evaluation.gather()
    summary = evaluation.summary()
    assert summary["coco"]["AP"] == 100 and summary["voc"] == {"AP50 11-point": 100, "AP50 all-point": 100}
    assert summary["per_class"]["toothbrush"] == {"COCO AP": 100, "VOC AP50 11-point": 100, "VOC AP50 all-point": 100}


@pytest.mark.parametrize("seed", range(5))
def test_coco_ap_equals_that_of_pycocotools(seed, tmp_path, capsys):
    data = open_coco(coco(tmp_path))
    detections = shaken(data, seed)
    result = coco_average_precision(data, detections)
    assert capsys.readouterr().out == ""
    same(result.stats, by_hand(tmp_path / "annotations" / "instances_train2017.json", coco_results(data, detections)))
    assert np.nanmean(result.per_class) == pytest.approx(result.stats["AP"])


def test_results_have_the_sources_ids(tmp_path):
    data = open_coco(coco(tmp_path))
    rows = coco_results(data, {1: Detections(np.array([[1.0, 2, 5, 9]]), np.array([0.5]), np.array([2]))})
    assert rows == [{"image_id": 7, "category_id": 90, "bbox": [1, 2, 4, 7], "score": 0.5}]


def test_difficult_objects_and_crowds_count_neither_as_misses_nor_as_false_positives():
    square, crowd = (0, 0, 8, 8), (10, 10, 30, 30)
    for ignored in (Annotation(crowd, 1, difficult=True), Annotation(crowd, 1, crowd=True)):
        data = boxes_of([[Annotation(square, 1), ignored]], 1)
        for rows in ([], [(crowd, 1, 0.95)]):
            detections = {0: found([(square, 1, 0.9), *rows])}
            voc = voc_average_precision(data, detections)
            assert voc.all_point[0] == voc.eleven_point[0] == 1
            assert coco_average_precision(data, detections).stats["AP"] == ONE
    missed = boxes_of([[Annotation(square, 1), Annotation(crowd, 1)]], 1)
    assert coco_average_precision(missed, {0: found([(square, 1, 0.9)])}).stats["AP"] < 0.6


def test_several_hits_on_a_difficult_object_or_a_crowd_are_not_punished():
    square, ignored = (0, 0, 8, 8), (10, 10, 30, 30)
    rows = [(ignored, 1, 0.95), ((10, 10, 30, 29), 1, 0.94), ((11, 10, 30, 30), 1, 0.93), (square, 1, 0.9)]
    for flags in ({"difficult": True}, {"crowd": True}):
        data = boxes_of([[Annotation(square, 1), Annotation(ignored, 1, **flags)]], 1)
        detections = {0: found(rows)}
        assert voc_average_precision(data, detections).all_point[0] == 1
        assert coco_average_precision(data, detections).stats["AP50"] == ONE
    punished = boxes_of([[Annotation(square, 1), Annotation(ignored, 1)]], 1)
    assert coco_average_precision(punished, {0: found(rows)}).stats["AP50"] < 1


def test_a_part_of_a_difficult_object_is_wrong_and_of_a_crowd_is_not():
    square, ignored, part = (0, 0, 8, 8), (10, 10, 30, 30), (10, 10, 20, 20)
    detections = {0: found([(part, 1, 0.95), (square, 1, 0.9)])}
    difficult = boxes_of([[Annotation(square, 1), Annotation(ignored, 1, difficult=True)]], 1)
    assert voc_average_precision(difficult, detections).all_point[0] == 0.5
    assert coco_average_precision(difficult, detections).stats["AP"] == pytest.approx(0.5)
    crowd = boxes_of([[Annotation(square, 1), Annotation(ignored, 1, crowd=True)]], 1)
    assert coco_average_precision(crowd, detections).stats["AP"] == ONE


def ap_without(images: list[tuple[list[Annotation], Found]], threshold: float) -> float:
    """AP at one overlap by pycocotools as it comes, to which neither difficult objects nor what hits them are shown.

    Detections go to the difficult objects only after all others have had their choice, as pycocotools has it with what it ignores.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, results = COCO(), COCO()
    boxes, rows = [], []
    for index, (stated, detections) in enumerate(images):
        plain, taken = [a for a in stated if not a.difficult], set()
        for box, label, score in sorted(detections, key=lambda row: -row[2]):
            free = [(overlap(box, a.box), k) for k, a in enumerate(plain) if a.label == label and k not in taken]  # type: ignore[arg-type]
            most, match = max(free, default=(0, -1))
            if most >= threshold:
                taken.add(match)
            elif any(overlap(box, a.box) >= threshold for a in stated if a.difficult and a.label == label):  # type: ignore[arg-type]
                continue
            rows.append({"image_id": index, "category_id": label, "bbox": sides(box), "area": 1, "score": score, "iscrowd": 0})
        boxes += [{"image_id": index, "category_id": a.label, "bbox": sides(a.box), "area": 1, "iscrowd": 0} for a in plain]  # type: ignore[arg-type]
    for each, content in ((truth, boxes), (results, rows)):
        each.dataset = {
            "images": [{"id": i} for i in range(len(images))],
            "categories": [{"id": label} for label in range(1, CLASSES + 1)],
            "annotations": [{**row, "id": number} for number, row in enumerate(content, 1)],
        }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex(), results.createIndex()
        evaluation = COCOeval(truth, results, "bbox")
        evaluation.params.iouThrs = np.array([threshold])
        evaluation.evaluate(), evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    return float(precision[precision > -1].mean()) if (precision > -1).any() else np.nan


def sides(box: Box) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


@settings(deadline=None, max_examples=25)
@given(images=IMAGES)
def test_difficult_objects_and_their_hits_are_ignored(images):
    data = boxes_of([image for image, _ in images], CLASSES)
    stats = coco_average_precision(data, {i: found(rows) for i, (_, rows) in enumerate(images)}).stats
    for name, threshold in (("AP50", 0.5), ("AP75", 0.75)):
        assert stats[name] == pytest.approx(ap_without(images, threshold), abs=1e-9, nan_ok=True)


def test_only_images_that_were_looked_at_are_judged():
    data = boxes_of([[Annotation((0, 0, 8, 8), 1)]] * 2, 1)
    detections = {1: found([((0, 0, 8, 8), 1, 0.9)])}
    assert voc_average_precision(data, detections).all_point[0] == 1
    assert coco_average_precision(data, detections).stats["AP"] == ONE


@pytest.mark.parametrize(
    ("box", "score", "label", "message"),
    [
        ((0, 0, np.nan, 8), 0.9, 1, "the detections in 0.jpg are not finite; the weights are damaged"),
        ((0, 0, 8, 8), np.inf, 1, "not finite"),
        ((0, 0, 8, 8), 0.9, 2, "labels from 2 to 2 in 0.jpg; the data has 1 to 1: it was trained for different classes"),
        ((0, 0, 8, 8), 0.9, 0, "labels from 0 to 0"),
    ],
)
def test_detections_that_cannot_be(box, score, label, message):
    evaluation = DetectionEvaluation(boxes_of([[]], 1))
    evaluation.add(0, [box], [score], [label])
    with pytest.raises(BadCheckpoint, match=message):
        evaluation.gather()


# ---------------------------------------------------------------------------------------------------------------------
# processes


def summaries():
    """The figures of detections and masks of which each process has a share."""
    state = processes(device="cpu")
    shapes = Shapes("val", 7, size=32, objects="several")
    boxes, masks = detection_shapes(shapes), segmentation_shapes(shapes)
    evaluation, matrix = DetectionEvaluation(boxes), ConfusionMatrix(masks.classes)
    detections = shaken(boxes, 0)
    for index in range(state.process_index, 7, state.num_processes):
        evaluation.add(index, *detections[index])
        truth = torch.from_numpy(masks.read(index)[1])
        matrix.add(truth.roll(2, 0), truth)
    evaluation.add(0, *detections[0])  # as samplers that fill up the last batch do
    evaluation.gather(), matrix.gather()
    found = [evaluation.summary(), matrix.summary()] if state.is_main_process else None
    state.destroy_process_group()
    return found


def test_two_processes_give_the_same_as_one():
    (one,), (two, _) = together(summaries, processes=1), together(summaries)
    assert one == two
    assert one[0]["n"] == 7 and 0 < one[0]["coco"]["AP"] < 100 and 0 < one[1]["miou"] < 100


def test_images_without_objects_have_no_average_precision() -> None:
    evaluation = DetectionEvaluation(boxes_of([[], []], 1))
    found = detection.evaluate.metrics(evaluation)
    assert found["voc_ap50"] is None
    assert found["coco_ap"] is None
    (sentence,) = detection.report.findings(evaluation, evaluation.summary())  # there are no sizes and no classes to speak of
    assert "0 objects" in sentence


# ---------------------------------------------------------------------------------------------------------------------
# real ones


@pytest.mark.packs
def test_real_coco(packs):
    data = open_coco(packs / "coco_mini", "val")
    annotations = packs / "coco_mini" / "annotations" / "instances_val2017.json"
    truth = ground_truth(data)
    assert coco_average_precision(data, truth).stats["AP"] == ONE
    same(coco_average_precision(data, truth).stats, by_hand(annotations, coco_results(data, truth)))
    detections = shaken(data, 0)
    same(coco_average_precision(data, detections).stats, by_hand(annotations, coco_results(data, detections)))
