"""`trickzoo compare` on detectors and segmenters: bootstrap intervals of paired differences."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from tests.annotated import boxes_of, refused
from tests.commands import Call, caller
from trickzoo import bootstrap
from trickzoo.cli import zoo
from trickzoo.data.boxes import DetectionSet
from trickzoo.data.masks import IGNORE, SegmentationSet, segmentation_shapes
from trickzoo.data.objects import Annotation
from trickzoo.data.shapes import Shapes
from trickzoo.detection import box_files, resampling
from trickzoo.detection.metrics import Detections, coco_average_precision
from trickzoo.result_files import write_csv
from trickzoo.segmentation import count_files
from trickzoo.segmentation.metrics import ConfusionMatrix
from trickzoo.studies.annotated_comparison import compare_detectors, compare_segmenters

CLASSES = 3


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo compare`; (exit status, stdout, stderr)."""
    return caller(capsys, zoo, "compare")


def annotated(n: int = 8) -> DetectionSet:
    """Images with objects of two of three classes, some of them crowds or difficult, and one image without objects."""
    random = np.random.default_rng(1)
    images = []
    for image in range(n):
        corners = random.integers(0, 20, (4 if image else 0, 2)).tolist()
        flags = [{}, {"crowd": image % 3 == 0}, {"difficult": image % 2 == 0}, {}]
        images.append([Annotation((x, y, x + 12, y + 14), 1 + i % 2, **flags[i]) for i, (x, y) in enumerate(corners)])  # type: ignore[arg-type]
    return boxes_of(images, CLASSES)


def shaken(data: DetectionSet, seed: int, noise: float) -> dict[int, Detections]:
    """Detections near the objects, some of another class, with some that match nothing."""
    random = np.random.default_rng(seed)
    found = {}
    for index in range(len(data)):
        objects = data.objects_of(index)
        near = objects.boxes + random.normal(0, noise, objects.boxes.shape)
        far = np.concatenate([random.uniform(0, 10, (3, 2)), random.uniform(11, 40, (3, 2))], axis=1)
        labels = np.concatenate([objects.labels, random.integers(1, CLASSES + 1, 3)])
        found[index] = Detections(np.concatenate([near, far]), random.random(len(labels)), labels)
    return found


def test_the_precision_of_a_draw_is_that_of_pycocotools_on_the_resampled_images() -> None:
    data = annotated()
    found = shaken(data, 0, 1.5)
    matched = resampling.match(data, found)
    weights = np.concatenate([np.ones((1, len(data)), np.int64), next(bootstrap.weights(len(data), 12, seed=3))])
    assert (weights.sum(1) == len(data)).all() and (weights > 1).any() and (weights == 0).any()
    aps = resampling.average_precisions(matched, weights)
    for row, (ap, ap50) in zip(weights, aps, strict=True):
        chosen = np.repeat(np.arange(len(data)), row).tolist()
        expected = coco_average_precision(data.take(chosen), {place: found[index] for place, index in enumerate(chosen)}).stats
        assert (ap, ap50) == pytest.approx((expected["AP"], expected["AP50"]), abs=1e-12)
    assert 0.1 < aps[0, 0] < aps[0, 1] < 0.95


def test_single_images_and_draws_without_objects() -> None:
    data = annotated()
    found = shaken(data, 0, 1.5)
    matched = resampling.match(data, found)
    alone = resampling.of_single_images(matched)
    assert np.isnan(alone[0]) and np.isfinite(alone[1:]).all()
    for index in (1, 5):
        assert alone[index] == pytest.approx(coco_average_precision(data.take([index]), {0: found[index]}).stats["AP50"])
    nothing = np.zeros((1, len(data)), np.int64)
    nothing[0, 0] = len(data)
    assert np.isnan(resampling.average_precisions(matched, nothing)).all()


def test_the_interval_is_that_of_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(0).gamma(2, size=40)
    ours = bootstrap.resampled(lambda weights: weights @ values / len(values), len(values), 20_000)
    low, high = bootstrap.interval(ours)
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", random_state=1)
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval), abs=0.02)
    assert bootstrap.resampled(lambda weights: weights, 3, 7).sum() == 21


def written(folder: Path, data: DetectionSet, seed: int, noise: float) -> Path:
    """Write detections; the folder is like that of a training."""
    folder.mkdir(parents=True)
    box_files.write(folder / "predictions.json", data, shaken(data, seed, noise))
    return folder


def test_stored_boxes_are_judged_as_they_were(tmp_path: Path) -> None:
    data = annotated()
    data = replace(data, images=tuple(image._replace(id=f"00{image.id}") for image in data.images), class_ids=(7, 3, 12))
    found = shaken(data, 0, 1.5)
    box_files.write(tmp_path / "b.json", data, found)
    again, theirs = box_files.read(tmp_path / "b.json")
    assert again.names == data.names and set(again.classes) == set(data.classes)
    expected, stats_of = coco_average_precision(data, found).stats, coco_average_precision(again, theirs).stats
    assert stats_of == pytest.approx(expected, nan_ok=True)


def test_detectors_are_compared_on_the_same_images(call: Call, tmp_path: Path) -> None:
    data = annotated()
    one, two = written(tmp_path / "1", data, 0, 3.0), written(tmp_path / "2", data, 0, 0.5)
    found = compare_detectors(one / "predictions.json", two / "predictions.json", 200)
    assert [each.name for each in found.figures] == ["COCO AP", "COCO AP50"] and found.n == len(data)
    for each, name in zip(found.figures, ("AP", "AP50"), strict=True):
        first, second = (100 * coco_average_precision(data, shaken(data, 0, noise)).stats[name] for noise in (3.0, 0.5))
        assert (each.first, each.second, each.difference) == pytest.approx((first, second, second - first))
        assert each.interval is not None and each.interval[0] < second - first < each.interval[1] and each.significant
    assert len(found.changed) <= len(data) - 1
    sizes = [abs(each.difference) for each in found.changed]
    assert sizes == sorted(sizes, reverse=True)

    out = tmp_path / "changed.csv"
    status, text, _ = call(one, two, "--draws", 200, "--out", out)
    assert status == 0 and "COCO AP: " in text and "0 is outside" in text and "the second is better in AP50: " in text
    assert [row["image"] for row in csv.DictReader(out.open())] == [each.image for each in found.changed]
    content = json.loads(call(one, two, "--draws", 200, "--json")[1])
    assert content["task"] == "detection" and content["figures"][0]["difference"] == pytest.approx(found.figures[0].difference)
    same = compare_detectors(one / "predictions.json", one / "predictions.json", 100)
    assert same.changed == () and same.figures[0].interval == (0, 0) and not same.figures[0].significant


def counted(path: Path, data: SegmentationSet, shift: int, *, order: int = 1) -> tuple[ConfusionMatrix, list[Any]]:
    """Write the counts of masks that are shifted by some pixels. Return their sum, and the masks."""
    found, pairs = ConfusionMatrix(data.classes), []
    for index in list(range(len(data)))[::order]:
        truth = torch.from_numpy(data.read(index)[1]).clone()
        predicted = truth.roll(shift * (1 + index % 3), 0)
        truth[:2] = IGNORE
        found.add(predicted, truth, index, np.nan if index else 0.1)
        pairs.append((predicted, truth))
    path.parent.mkdir(parents=True, exist_ok=True)
    count_files.write(path, data, found)
    return found, pairs


def test_mean_iou_of_a_draw_is_that_of_the_resampled_masks(tmp_path: Path) -> None:
    data = segmentation_shapes(Shapes("val", 6, size=24, objects="several"))
    found, pairs = counted(tmp_path / "a.csv", data, 1)
    counts = count_files.read(tmp_path / "a.csv")
    assert counts.names == data.names and counts.classes == data.classes
    table = list(csv.reader((tmp_path / "a.csv").open(newline="")))
    assert [row[-1] for row in table] == ["margin", "0.100000", *["nan"] * 5]
    write_csv(tmp_path / "before.csv", table[0][:-1], [row[:-1] for row in table[1:]])  # as earlier versions wrote it
    before = count_files.read(tmp_path / "before.csv")
    assert before.classes == data.classes and np.array_equal(before.union, counts.union)
    weights = next(bootstrap.weights(len(data), 10))
    for row, (miou, accuracy) in zip(weights, count_files.mean_iou(counts, weights), strict=True):
        again = ConfusionMatrix(data.classes)
        for index in np.repeat(np.arange(len(data)), row).tolist():
            again.add(*pairs[index])
        summary = again.summary()
        assert (100 * miou, 100 * accuracy) == pytest.approx((summary["miou"], summary["pixel_accuracy"]), abs=1e-4)
    for index, (miou, _) in enumerate(count_files.mean_iou(counts)):
        single = ConfusionMatrix(data.classes)
        single.add(*pairs[index])
        assert 100 * miou == pytest.approx(single.summary()["miou"], abs=1e-4)
        assert found.images[index].miou == pytest.approx(miou)


def test_segmenters_are_compared_on_the_same_images(call: Call, tmp_path: Path) -> None:
    data = segmentation_shapes(Shapes("val", 6, size=24, objects="several"))
    one, two = tmp_path / "1" / "predictions.csv", tmp_path / "2.csv"
    first, second = counted(one, data, 3)[0].summary(), counted(two, data, 1, order=-1)[0].summary()
    found = compare_segmenters(one, two, 200)
    miou = found.figures[0]
    assert (miou.first, miou.second) == pytest.approx((first["miou"], second["miou"]), abs=1e-4)
    assert miou.interval is not None and 0 < miou.interval[0] < miou.difference < miou.interval[1]  # type: ignore[operator]
    status, text, _ = call(one.parent, two, "--draws", 100)
    assert status == 0 and "mean IoU: " in text and "the second is better in mean IoU: 6 images" in text


def test_what_cannot_be_compared(call: Call, tmp_path: Path) -> None:
    data = annotated(4)
    one, two = written(tmp_path / "1", data, 0, 1.0), written(tmp_path / "2", annotated(3), 0, 1.0)
    other = replace(data, objects=replace(data.objects, labels=data.objects.labels % CLASSES + 1))
    shapes = segmentation_shapes(Shapes("val", 2, size=24))
    counted(tmp_path / "masks" / "predictions.csv", shapes, 1)
    old, alone = tmp_path / "old.csv", tmp_path / "alone.json"
    old.write_text("image,right,judged\na,1,2\n")
    alone.write_text("[]")
    stray = written(tmp_path / "stray", data, 0, 1.0)
    (stray / "predictions.json").write_text('[{"image_id": 99, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]')
    for tokens, message in (
        ((one, two), "has no prediction for 3.jpg, as"),
        ((one, written(tmp_path / "4", other, 0, 1.0)), "have different labels; compare predictions for the same annotations"),
        ((one, tmp_path / "masks"), "is of a detector and"),
        ((tmp_path / "masks", old), "old.csv has no pixels of each class, as files of earlier versions"),
        ((one, alone), "alone.truth.json, the annotated boxes, does not exist"),
        ((one, stray), "box 1 names image 99 and category 1, which"),
        ((one, one, "--draws", 1), "--draws must be 100 or more, not 1"),
    ):
        status, out, err = call(*tokens)
        assert (status, out, message in err, err.count("\n")) == (2, "", True, 1), err
    damaged = tmp_path / "damaged.json"
    for text in ("{}", '[{"image_id": 1}]', "[" * 5000):
        damaged.write_text(text)
        refused(lambda: box_files.read(damaged), "is not in COCO's results format")
    for text in ("image,right,judged,intersection of a,union of a\nx,1,2,3\n", "image,right,judged\n", "image,right,judged\nx,1,b\n", ""):
        old.write_text(text)
        refused(lambda: count_files.read(old), "old.csv")
    for counts in ("1,2,5,3,0,0", "2,2,1,2,0,0", "1,2,1,3,0,1", "3,2,3,3,0,0"):
        old.write_text(f"image,right,judged,intersection of a,union of a,intersection of b,union of b\nx,{counts}\n")
        refused(lambda: count_files.read(old), "old.csv is damaged: its counts do not fit each other; evaluate again with --predictions")
