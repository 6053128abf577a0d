"""The page, the table and the plots of a transfer study."""

from __future__ import annotations

import base64
import csv
import io
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from msgspec import convert
from PIL import Image
from scipy import stats

from tests.made_results import ALIKE, APART, LADDER, RUNGS, Figures, only, results, summarise
from tests.studies import Page
from trickzoo.studies import plots, report, transfer_summary, transfer_words
from trickzoo.studies.examples import Example
from trickzoo.studies.records import Correlation


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 6)).save(file, kind)
    return file.getvalue()


def numbers(cells: list[str]) -> list[float]:
    return [float(number.replace("−", "-")) for number in re.findall(r"[+−]?\d+\.?\d*", " ".join(cells))]


VIEWS = (("as annotated", picture("png")), ("by the backbone of baseline", picture("jpeg")))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study whose report is written, with examples; nobody is to write there."""
    pictures = [Example('Boxes in "dog".', VIEWS), Example("Boxes in cat.", VIEWS[:1])]
    path = report.write_transfer(summarise(detection=ALIKE, segmentation=APART), LADDER, tmp_path_factory.mktemp("written"), pictures)
    assert path.name == "report.html"
    return path.parent


def test_every_figure_of_the_report_is_the_jsons(written: Path) -> None:
    content, page = (
        json.loads((written / "transfer.json").read_text()),
        Page((written / "report.html").read_text(encoding="utf-8"), images=True),
    )
    for finding in (*content["findings"], *LADDER.findings):
        assert finding in page.text
    assert "Does a better classifier make a better detector and a better segmenter? mobilenet_v1_025 on imagenette128" in page.text
    start = 0
    for task in content["tasks"]:
        rows = page.rows[start + 1 : start + 8]
        for row, rung in zip(rows, task["rungs"], strict=True):
            top1, figure, difference = rung["top1"], rung["figure"], rung["difference"]
            wanted = [top1["mean"], *top1["interval"], figure["mean"], *figure["interval"], figure["s"], figure["n"]]
            if difference:
                wanted += [difference["mean"], *(difference["interval"] or ()), *filter(None, (difference["p"], difference["p_holm"]))]
                wanted += [difference["detectable"]] if difference["verdict"] == "not significant" else []
            assert row[0] == rung["title"]
            assert numbers(row[1:]) == pytest.approx(wanted, abs=0.0051)
        seeds, others = page.rows[start + 9 : start + 16], page.rows[start + 17 : start + 24]
        for rung, each, other in zip(task["rungs"], seeds, others, strict=True):
            assert numbers(each[1:]) == pytest.approx(rung["figure"]["values"], abs=0.0051)
            (halves,) = rung["others"].values()
            assert numbers(other[1:]) == pytest.approx([halves["mean"], *halves["interval"]], abs=0.0051)
        assert transfer_words.correlation_in_words(convert(task["correlation"], Correlation)) in page.text
        start += 24
    for part in ("<2 × CPU>", "c0ffee+", "with changes", "42 of 42 fine-tuning runs", "The ladder: every rung", "40,000 draws"):
        assert part in page.text


def test_the_report_needs_nothing_else(written: Path) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    page = Page(text, images=True)
    images = [address for address in page.addresses if not address.startswith("#")]
    assert [base64.b64decode(address.partition(",")[2]) for address in images] == [image for _, image in (*VIEWS, VIEWS[0])]
    assert [address.partition(";")[0] for address in images] == ["data:image/png", "data:image/jpeg", "data:image/png"]
    assert page.alternatives == [
        'Boxes in "dog". As annotated.',
        'Boxes in "dog". By the backbone of baseline.',
        "Boxes in cat. As annotated.",
    ]
    assert "Predictions of the detectors and segmenters" in page.text
    assert not re.findall(r"@import|url\((?!#)", text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert {file.name for file in written.iterdir()} == {*("transfer.json", "transfer.csv", "transfer.png", "transfer.svg", "report.html")}
    with pytest.raises(ValueError, match="PNG or JPEG"):
        report.transfer_sections(summarise(detection=ALIKE), [Example("a text", (("text", b"text"),))])


def test_the_table_as_csv(tmp_path: Path) -> None:
    content = summarise(detection=ALIKE, segmentation={**APART, "mixup": [30.0, 31.0]})
    report.write_transfer(content, LADDER, tmp_path)
    rows = list(csv.DictReader((tmp_path / "transfer.csv").open()))
    wanted = [(task.task, rung.rung, rung.figure.mean) for task in content.tasks for rung in task.rungs]
    assert [(row["task"], row["rung"], float(row["figure_mean"])) for row in rows] == wanted
    assert (rows[0]["difference_mean"], rows[-1]["figure_seed_2"], rows[-1]["top1_n"], rows[-1]["measure"]) == ("", "", "2", "miou")


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("figures", [ALIKE, APART, {rung: [20 + 0.01 * i, 20.1, 20.2] for i, rung in enumerate(RUNGS)}])
def test_names_of_dots_do_not_cover_one_another(figures: Figures, narrow: bool) -> None:
    figure = plots.transfer(summarise(detection=figures).tasks, narrow=narrow)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for axes in figure.axes for text in axes.texts if text.get_text()]
    assert len(boxes) == 7
    assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_too_few_rungs_for_a_relation_are_rows_and_no_scatter(tmp_path: Path) -> None:
    """Two points always lie on a line, so a scatter plot of them shows no relation."""
    few = summarise(detection=only(ALIKE, rungs=2))
    level, difference = plots.transfer(few.tasks).axes
    assert [label.get_text() for label in level.get_yticklabels()] == ["baseline", "+ large batch, linear scaling"]
    assert [line.get_xdata()[0] for line in difference.lines if line.get_marker() == "o" and line.get_markersize() < 6] == [
        pytest.approx(few.tasks[0].rungs[1].difference.mean)
    ]
    page = report.write_transfer(few, LADDER, tmp_path).read_text(encoding="utf-8")
    assert "Each dot is a rung" not in page
    whole = Page(page).text.replace("\n", " ")
    assert whole.index(LADDER.findings[0]) < whole.index(transfer_words.answers(few)[0])
    assert Page(page).text.count(LADDER.findings[0]) == 1


def test_random_weights_are_compared_with_the_first_rung(tmp_path: Path) -> None:
    """They have no place in the rank correlation, and the first rung is compared with them."""
    values = [20.0, 21.5, 24.0]
    found = results(detection={**ALIKE, "scratch": list(values)})
    (task,) = transfer_summary.summarise(LADDER, found, scratch=True).tasks
    (without,) = transfer_summary.summarise(LADDER, found).tasks
    assert task.scratch and task.scratch.difference and without.scratch is None
    assert (task.rungs, task.correlation) == (without.rungs, without.correlation)
    first = np.array(ALIKE["baseline"], float) - values
    low, high = stats.t.interval(0.95, 2, first.mean(), stats.sem(first))
    assert task.scratch.difference.interval == pytest.approx((low, high))
    study = transfer_summary.summarise(LADDER, found, scratch=True)
    assert study.planned == 3 * (len(RUNGS) + 1)
    said = "From random weights, VOC AP50 all-point is 21.83 %; with the backbone of baseline it changes by −2.70 points (95 % CI "
    assert any(line.startswith(said) for line in study.findings)
    report.write_transfer(study, LADDER, tmp_path, [])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("from random weights") == 1
    (row,) = (row for row in csv.DictReader((tmp_path / "transfer.csv").open(encoding="utf-8")) if row["rung"] == "scratch")
    assert (row["figure_seed_1"], row["top1_mean"]) == ("21.5", "")
