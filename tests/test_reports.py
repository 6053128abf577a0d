"""Reports of trainings and evaluations, and the figures in them."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from tests.annotated import boxes_of
from tests.commands import caller
from tests.training import COSINE, SMALL
from trickzoo.classification import predictions, report
from trickzoo.classification.predictions import Predictions
from trickzoo.cli import zoo
from trickzoo.data.objects import Annotation
from trickzoo.detection import report as detection_report
from trickzoo.detection import resampling
from trickzoo.detection.metrics import DetectionEvaluation, coco_average_precision, voc_average_precision
from trickzoo.segmentation import report as segmentation_report
from trickzoo.segmentation.metrics import ConfusionMatrix, mean_margin
from trickzoo.training import report as training_report

VOID = {"meta", "img", "br", "path", "use", "link", "wbr"}


class Page(HTMLParser):
    """Checks that every tag is closed in its order, and collects the ids, the texts, and whatever a browser would load or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.foreign: list[str] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        links = [value or "" for name, value in attrs if name in ("href", "xlink:href") and not (value or "").startswith("#")]
        self.foreign += [*links, *(f"{tag} {name}" for name, _ in attrs if name == "src" or name.startswith("on"))]
        self.foreign += [tag] if tag in ("script", "iframe", "object") else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that is closed at once."""
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        """Close a tag."""
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts.append(data)


def checked(path: Path, *sections: str, pictures: range = range(1)) -> str:
    """Return the text of a page, which is self-contained and small and has these headings and as many pictures as one of a range."""
    content = path.read_text(encoding="utf-8")
    page = Page(content)
    assert path.stat().st_size < 2_000_000
    assert content.count('src="data:image/jpeg;base64,') in pictures
    assert page.foreign == ["img src"] * content.count('src="data:image/jpeg;base64,')
    assert len(set(page.ids)) == len(page.ids)
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", content) == list(sections)
    return " ".join(" ".join(page.texts).split())


CLASSIFIER = ("Confused classes", "Every class", "Calibration: confidence and accuracy", "Images to look at", "The images")


def random_predictions(n: int = 200, k: int = 4) -> Predictions:
    """Predictions that are right more often than not, for classes of different sizes, one of which is never predicted."""
    random = np.random.default_rng(0)
    labels = random.choice(k, n, p=[0.5, 0.3, 0.15, 0.05])
    scores = random.random((n, k)) + 0.7 * np.eye(k)[labels]
    scores[:, 3] = 0
    probability = scores / scores.sum(1, keepdims=True)
    top = np.argsort(-probability, axis=1)
    return Predictions([f"{i}.jpg" for i in range(n)], labels, top, np.take_along_axis(probability, top, 1), ("ant", "bee", "c<b>", "dog"))


def test_the_figures_of_each_class_are_those_of_scikit_learn() -> None:
    found = random_predictions()
    confusion = found.confusion()
    assert np.array_equal(confusion, reference.confusion_matrix(found.labels, found.top[:, 0]))
    precision, recall, f1, n = reference.precision_recall_fscore_support(found.labels, found.top[:, 0], zero_division=np.nan)
    each = predictions.per_class(confusion)
    assert np.array_equal(each.n, n)
    np.testing.assert_allclose(each.recall, recall)
    np.testing.assert_allclose(each.precision, precision)
    np.testing.assert_allclose(each.f1, np.where(n > 0, np.nan_to_num(f1), f1))


def test_top5_is_left_out_for_few_classes() -> None:
    assert predictions.metrics(random_predictions()).keys() == {"top1", "balanced_accuracy", "macro_f1"}


def test_confusions_and_images_are_the_most_telling_ones() -> None:
    found = random_predictions()
    confusion = found.confusion()
    pairs = predictions.most_confused(confusion, 3)
    errors = sorted((int(confusion[i, j]) for i in range(4) for j in range(4) if i != j), reverse=True)
    assert [n for _, _, n in pairs] == errors[:3] and all(confusion[i, j] == n for i, j, n in pairs)
    sure = predictions.most_confident_mistakes(found, 5)
    wrong = [i for i in range(len(found.labels)) if found.labels[i] != found.top[i, 0]]
    assert sure == sorted(wrong, key=lambda i: -found.confidence[i, 0])[:5]
    margins = found.confidence[:, 0] - found.confidence[:, 1]
    assert predictions.least_certain(found, 5) == np.argsort(margins)[:5].tolist()


def test_the_bins_of_the_reliability_give_the_calibration_error() -> None:
    found = random_predictions()
    bins = predictions.reliability(found.confidence[:, 0], found.right)
    assert sum(n for _, _, n in bins) == len(found.labels)
    ece = sum(n * abs(confidence - accuracy) for confidence, accuracy, n in bins) / len(found.labels)
    assert ece == pytest.approx(report.expected_calibration_error(found.confidence[:, 0], found.right))


def test_a_training_of_one_epoch_has_whole_epochs_and_rounded_shares(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "epoch": 0, "loss": 2.0, "lr": 0.1}\n{"step": 1, "epoch": 0, "top1": 50.0}\n')
    (curves,) = training_report._curves(tmp_path, "top1")
    ticks = re.findall(r">([\d.]+)</text>", curves.body)
    assert ticks.count("1") == 4 and not any(tick.startswith("0.9") for tick in ticks)  # two axes, each for a wide and a narrow screen
    images = training_report.data_section({"n": 1500, "majority": 33.3333}, ()).body
    assert '<td class="number">33.33</td>' in images and ">1,500<" in images


def test_the_findings_state_interval_majority_and_the_worst_confusion() -> None:
    found = random_predictions()
    sentences = " ".join(report.findings(found))
    share = 100 * found.right.mean()
    assert f"Top-1 is {share:.2f} % of 200 images (95 % CI" in sentences and "Top-5" not in sentences
    assert f"Always answering ant, the largest class, would give {100 * (found.labels == 0).mean():.1f} %." in sentences
    assert "The most frequent error: " in sentences and " is predicted as " in sentences


def test_a_report_without_mistakes_has_no_empty_table_of_them() -> None:
    found = random_predictions()
    for labels, mistakes in ((found.labels, 1), (found.top[:, 0], 0)):
        page = "".join(section.body for section in report.sections(replace(found, labels=labels)))
        assert [page.count(f"<caption>{each}<") for each in (report.MISTAKES, report.UNCERTAIN)] == [mistakes, 1]


def test_a_training_ends_with_a_report_and_its_predictions(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call, out = caller(capsys, zoo), tmp_path / "run <i>"
    tokens = ("train", "--recipe", COSINE, "--data", colours, "--out", out, *SMALL, "--workers", 0)
    status, text, _ = call(*tokens)
    assert (status, text.splitlines()[-1]) == (0, str(out / "report.html"))
    headings = (*CLASSIFIER[:-1], "Pictures of these images", CLASSIFIER[-1])
    page = checked(out / "report.html", "The training", *headings, "Next steps", "How it was made", pictures=range(6, 13))
    result = json.loads((out / "result.json").read_text())
    assert f"Top-1 is {result['top1']:.2f} % of 20 images" in page and "training images 56" in page
    assert "aspect 0.75, 1.333" in page and "augmentation" not in page
    assert f"trickzoo predict IMAGES --model {out}" in page
    assert "zero_ gamma false" in page  # a line may break after an underscore
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    assert len(rows) == 20 and 100 * np.mean([row["class"] == row["top1"] for row in rows]) == result["top1"]
    assert {row["image"].split("/")[0] for row in rows} == {"c0", "c1", "c2", "c3"}
    assert all(row["image"].startswith(row["class"]) for row in rows)
    before = (out / "report.html").stat().st_mtime_ns
    assert call(*tokens)[0] == 0
    assert (out / "report.html").stat().st_mtime_ns == before

    (out / "report.html").unlink()
    assert call(*tokens, "--pictures", 0)[0] == 0
    checked(out / "report.html", "The training", *CLASSIFIER, "Next steps", "How it was made")

    evaluated, table = tmp_path / "evaluated.html", tmp_path / "evaluated.csv"
    tokens = ("eval", "imagenet", "--data", colours, "--model", out, "--workers", 0, "--report", evaluated, "--predictions", table)
    assert call(*tokens, "--pictures", 3)[0] == 0
    assert f"Top-1 is {result['top1']:.2f} % of 20 images" in checked(evaluated, *headings, "How it was made", pictures=range(3, 7))
    again = list(csv.DictReader(table.open()))
    assert [(row["image"], row["top1"]) for row in again] == [(row["image"], row["top1"]) for row in rows]


@pytest.mark.parametrize(
    ("task", "small", "headings", "uncertain"),
    [
        (
            "detection",
            {"short": 32, "long": 32, "fpn-channels": 16, "representation-size": 16, "proposals": 20, "rois": 8},
            ("Precision and recall", "Every class", "Images to look at"),
            "image uncertainty found",
        ),
        (
            "segmentation",
            {"base": 32, "crop": 32, "short": 32},
            ("Every class", "Confused classes", "Images to look at"),
            "image mean margin mean IoU",
        ),
    ],
)
def test_a_fine_tuning_ends_with_a_report(
    task: str, small: dict[str, Any], headings: tuple[str, ...], uncertain: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [part for name, value in small.items() for part in (f"--{name}", value)]
    tokens = ("shapes", "--task", task, "--images", 10, "--weights", "none", "--epochs", 1, "--batch-size", 2, "--workers", 0, *options)
    status, text, _ = caller(capsys, zoo, "finetune")(*tokens, "--out", tmp_path)
    assert status == 0 and text.splitlines()[-1] == str(tmp_path / "report.html")
    page = checked(tmp_path / "report.html", "The training", *headings, "The images", "Next steps", "How it was made", pictures=range(2, 5))
    result = json.loads((tmp_path / "result.json").read_text())
    figure = result["voc_ap50"] if task == "detection" else result["miou"]
    assert f"{figure:.2f} %" in page and uncertain in page
    evaluated = tmp_path / "evaluated.html"
    again = ("eval", "shapes", "--images", 2, "--model", tmp_path, "--workers", 0, "--report", evaluated, "--pictures", 2, "--quiet")
    assert caller(capsys, zoo)(*again)[:2] == (0, "")
    text = checked(evaluated, *headings, "The images", "How it was made", pictures=range(2, 5))
    assert f"{figure:.2f} %" in text and "its licence applies to them" in text
    status, compared, _ = caller(capsys, zoo, "compare")(tmp_path, tmp_path, "--draws", 100)
    assert status == 0 and f"{result['coco_ap'] if task == 'detection' else result['miou']:.2f} %, difference +0.00" in compared
    if task == "segmentation":
        rows = list(csv.DictReader((tmp_path / "predictions.csv").open()))
        right, pixels = (sum(int(row[column]) for row in rows) for column in ("right", "judged"))
        assert 100 * right / pixels == pytest.approx(result["pixel_accuracy"], abs=1e-4)
    else:
        assert isinstance(json.loads((tmp_path / "predictions.json").read_text()), list)


def test_the_least_certain_images_of_a_detector_have_scores_about_one_half() -> None:
    assert detection_report.uncertainty(np.array([0.5, 0.25, 0.75, 0.9, 0.0, 1.0])) == pytest.approx(1 + 0.25 + 0.25 + 0.04)
    found = DetectionEvaluation(boxes_of([[]] * 4, 1))
    for index, scores in enumerate([[0.9], [], [0.4, 0.95], [0.6, 0.5]]):  # uncertainties of 0.04, 0, 0.65 and 1.64
        found.add(index, [[0, 0, 9, 9]] * len(scores), scores, [1] * len(scores))
    body = detection_report._images(found, 0).body
    rows = re.findall(r'<(?:td[^>]*|th scope="row")>(.*?)</t', body[body.index(">uncertainty") :])
    assert rows == ["3.jpg", "1.64", "2", "2.jpg", "0.65", "1", "0.jpg", "0.04", "1", "1.jpg", "0.00", "0"]


def test_the_least_certain_masks_have_the_smallest_margin() -> None:
    logits = torch.full((3, 8, 8), -9.0)  # of the rows and columns 0 and 4 only
    logits[:, ::4, ::4] = torch.tensor([[[0.5, 0.4], [0.1, 1.0]], [[0.3, 0.4], [0.6, 0.0]], [[0.2, 0.2], [0.3, 0.0]]]).log()
    assert mean_margin(logits) == pytest.approx((0.2 + 0.0 + 0.3 + 1.0) / 4)
    assert mean_margin(torch.zeros(1, 4, 4)) == 1
    found, mask = ConfusionMatrix(("background", "circle")), torch.zeros(2, 2, dtype=torch.long)
    for index, margin in enumerate((0.8, np.nan, 0.1, 0.5)):
        found.add(mask, mask, index, margin)
    assert segmentation_report.least_certain(found) == [2, 3, 0]


def test_the_mean_of_a_precision_recall_curve_is_the_average_precision() -> None:
    random = np.random.default_rng(0)
    corners = random.integers(0, 25, (8, 3, 2)).tolist()
    data = boxes_of([[Annotation((x, y, x + 10, y + 10), 1 + i % 2) for i, (x, y) in enumerate(image)] for image in corners], 2)
    evaluation = DetectionEvaluation(data)
    for index in range(len(data)):
        objects = data.objects_of(index)
        noise = random.normal(0, 1.5, objects.boxes.shape)
        evaluation.add(index, objects.boxes + noise, random.random(len(objects)), objects.labels)
    curves = resampling.curves(resampling.match(data, evaluation.found), 100)
    assert curves.classes == (0, 1)
    assert curves.mean.mean() == pytest.approx(coco_average_precision(data, evaluation.found).stats["AP50"])
    assert curves.each.mean(1) == pytest.approx(voc_average_precision(data, evaluation.found).all_point, abs=0.02)
    (low, high), (lower, upper) = curves.of_each, curves.of_mean
    assert (low <= high).all() and (lower <= curves.mean).mean() > 0.8 and (curves.mean <= upper).mean() > 0.8 and (lower < upper).any()
    nothing = resampling.curves(resampling.match(boxes_of([[]], 2), {0: evaluation.found[0]}), 100)
    assert nothing.classes == () and "Precision and recall" in detection_report._curves(DetectionEvaluation(boxes_of([[]], 2))).heading
