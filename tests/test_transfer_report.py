"""The report of a transfer study: its sentences claim no more than the figures show, and its figures are correct."""

from __future__ import annotations

import base64
import csv
import io
import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import convert, to_builtins
from msgspec.structs import replace
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from tests.studies import Page
from trickzoo.errors import BadCheckpoint, BadData
from trickzoo.studies import plots, report, transfer_summary, transfer_words
from trickzoo.studies.examples import Example
from trickzoo.studies.records import Correlation, LadderStudy, TransferStudy
from trickzoo.studies.results import FineTuning, read
from trickzoo.studies.samples import percentage
from trickzoo.studies.statistics import rank_correlation, spearman

LADDER = read(Path(__file__).parents[1] / "benchmarks/results/ladder_imagenette128_mobilenet_v1_025/ladder.json", LadderStudy)
RUNGS = [rung.rung for rung in LADDER.rungs]
TOP1 = {rung.rung: dict(zip(rung.seeds, rung.top1.values, strict=True)) for rung in LADDER.rungs}
MEASURE = {"detection": "voc_ap50", "segmentation": "miou"}
OTHER = {"detection": "coco_ap", "segmentation": "pixel_accuracy"}
Figures = dict[str, list[float | None]]

ALIKE: Figures = {rung: [round(5 + 0.4 * TOP1[rung][seed] + (1, 0.2, -0.9)[seed], 4) for seed in range(3)] for rung in RUNGS}
"""Figures that follow top-1 accuracy."""
APART: Figures = {rung: [30.0 + (3 * i % 7) + 0.1 * seed * (i + 1) for seed in range(3)] for i, rung in enumerate(RUNGS)}
"""Figures that do not follow top-1 accuracy."""


def result(task: str, rung: str, seed: int, figure: float | None) -> dict[str, Any]:
    """A fine-tuning's result with this figure."""
    return {
        "task": task,
        "measure": MEASURE[task],
        MEASURE[task]: figure,
        OTHER[task]: None if figure is None else figure / 2,
        "n": 500,
        "n_train": 1500,
        "recipe": {"name": f"small.{task}.voc", "epochs": 12, "size": 256},
        "seed": seed,
        "backbone": {"rung": rung, "seed": seed, "top1": TOP1.get(rung, {}).get(seed)},
        "data_digest": "d",
        "val_digest": "v",
        "processes": 1,
        "wall_seconds": 90.0,
        "commit": "c0ffee+",
        "command": "trickzoo transfer",
        "hardware": "<2 × CPU>",
        "platform": "P",
        "versions": {"torch": "2"},
    }


def results(**figures: Figures) -> dict[str, dict[str, dict[int, FineTuning]]]:
    """The results of tasks with these figures by rung and seed."""
    return {
        task: {
            rung: {seed: convert(result(task, rung, seed, figure), FineTuning) for seed, figure in enumerate(values)}
            for rung, values in by_rung.items()
        }
        for task, by_rung in figures.items()
    }


def summarise(ladder: LadderStudy = LADDER, **figures: Figures) -> TransferStudy:
    return transfer_summary.summarise(ladder, results(**figures))


def only(figures: Figures, rungs: int = 7, seeds: int = 3) -> Figures:
    """The figures of the first rungs and seeds."""
    return {rung: figures[rung][:seeds] for rung in RUNGS[:rungs]}


def with_top1(values: dict[str, list[float]]) -> LadderStudy:
    """The ladder with other accuracies."""
    return replace(LADDER, rungs=tuple(replace(rung, top1=percentage(values[rung.rung])) for rung in LADDER.rungs))


# ---------------------------------------------------------------------------------------------------------------------
# the rank correlation


@pytest.mark.parametrize(("n", "ties"), [(4, False), (5, False), (7, False), (7, True), (11, False)])
def test_rank_correlation_is_scipys(n: int, ties: bool) -> None:
    xs, ys = np.random.default_rng(n).standard_normal((2, n))
    if ties:
        xs = np.round(xs)
    found = rank_correlation(list(xs), list(ys))
    assert found.rho == pytest.approx(stats.spearmanr(xs, ys).statistic)
    if n <= 7:
        ranks = stats.rankdata(ys)

        def of_ranks(x: NDArray[Any], axis: int) -> Any:
            return stats.pearsonr(stats.rankdata(x, axis=axis), ranks, axis=axis).statistic

        test = stats.permutation_test((xs,), of_ranks, permutation_type="pairings", vectorized=True, n_resamples=np.inf)
        assert found.p == pytest.approx(test.pvalue)
    else:
        assert found.p == pytest.approx(stats.spearmanr(xs, ys).pvalue, abs=0.02)


def test_rank_correlation_by_hand() -> None:
    found = rank_correlation([1, 2, 3, 4, 5], [10, 20, 40, 30, 50])  # 1 - 6 * 2 / (5 * 24)
    assert found.rho == pytest.approx(0.9)
    assert found.p == pytest.approx(2 * 5 / 120)  # the right order, the four orders that exchange two neighbours, and the reverse of each
    assert rank_correlation([1, 2, 3, 4, 5], [50, 30, 40, 20, 10]).interval == tuple(-end for end in reversed(found.interval or ()))


@pytest.mark.parametrize(("n", "ys"), [(7, [1, 2, 4, 3, 5, 7, 6]), (5, [1, 2, 3, 4, 5]), (7, [3, 1, 2, 7, 4, 6, 5])])
def test_the_interval_ends_where_the_correlation_would_be_rejected(n: int, ys: list[int]) -> None:
    found = rank_correlation(range(n), ys)
    assert found.rho is not None and found.interval is not None
    for end, sign in zip(found.interval, (1, -1), strict=True):
        if abs(end) == 1:
            assert abs(found.rho) == pytest.approx(1)
            continue
        r = 2 * np.sin(np.pi / 6 * end)  # of normal variables with this rank correlation
        pairs = np.random.default_rng(9).multivariate_normal([0, 0], [[1, r], [r, 1]], size=(4000, n))
        ranks = stats.rankdata(pairs, axis=1)
        as_far = sign * stats.pearsonr(ranks[:, :, 0], ranks[:, :, 1], axis=1).statistic >= sign * found.rho - 1e-9
        assert np.mean(as_far) == pytest.approx(0.025, abs=0.008)


def test_interval_and_test_agree() -> None:
    for order in itertools.islice(itertools.permutations(range(5)), 0, 120, 7):
        found = rank_correlation(range(5), order)
        assert found.p is not None and found.interval is not None
        assert (found.p < 0.05) == (not found.interval[0] <= 0 <= found.interval[1])


def test_no_correlation_of_what_is_constant_and_no_interval_of_three() -> None:
    assert spearman([1, 2, 3, 4], [5, 5, 5, 5]) is None
    assert rank_correlation([1, 2, 3, 4], [5, 5, 5, 5]).interval is None
    three = rank_correlation([1, 2, 3], [1, 2, 3])
    assert (three.rho, three.interval, three.p) == (pytest.approx(1), None, None)
    with pytest.raises(ValueError, match="3 and 2 values"):
        spearman([1, 2, 3], [1, 2])


# ---------------------------------------------------------------------------------------------------------------------
# the summary and its sentences


def test_the_figures_are_those_of_independent_formulas() -> None:
    for figures in (ALIKE, APART):
        (task,) = summarise(detection=figures).tasks
        means = [[np.mean(list(values)) for values in by_rung] for by_rung in (map(dict.values, TOP1.values()), figures.values())]
        assert task.correlation.rho == pytest.approx(stats.spearmanr(*means).statistic)
        for each in task.correlation.by_seed:
            pairs = [(TOP1[rung][each.seed], figures[rung][each.seed]) for rung in RUNGS]
            assert each.rho == pytest.approx(stats.spearmanr(pairs).statistic)
        for rung in task.rungs[1:]:
            wanted = stats.ttest_rel(figures[rung.rung], figures["baseline"])
            assert rung.difference.interval == pytest.approx(list(wanted.confidence_interval(0.95)), abs=1e-3)
            assert rung.difference.p == pytest.approx(wanted.pvalue, rel=1e-2)
            one = stats.ttest_1samp(figures[rung.rung], 0).confidence_interval(0.95)
            assert rung.figure.interval == pytest.approx(list(one))


def test_correlated_and_uncorrelated_figures() -> None:
    content = summarise(detection=ALIKE, segmentation=APART)
    detection, segmentation = transfer_words.answers(content)
    assert detection.startswith("Rungs that classify better also detect better: over the means of 7 rungs, Spearman's rank correlation")
    assert segmentation.startswith("The study does not show that rungs which classify better also segment better")
    for task, answer in zip(content.tasks, (detection, segmentation), strict=True):
        low, high = task.correlation.interval
        assert ("does not show" in answer) == (low <= 0 <= high)
    backwards = summarise(detection={rung: [100 - value for value in values] for rung, values in ALIKE.items()})
    assert transfer_words.answers(backwards)[0].startswith("Rungs that classify better detect worse")
    said = content.findings
    assert said[:2] == (detection, segmentation)
    assert "12 epochs of fine-tuning (small.detection.voc) with 1,500 images of 256 pixels" in " ".join(said)
    assert said[-1].endswith("Other images, longer training and other models may give different results.")
    uncorrected = "not corrected for multiple comparisons"
    assert uncorrected in said[-1]
    assert uncorrected not in " ".join(backwards.findings)


def test_rungs_are_compared_as_their_intervals_allow() -> None:
    content = summarise(detection=ALIKE)
    said = " ".join(content.findings)
    verdicts = {rung.rung: rung.difference.verdict for rung in content.tasks[0].rungs[1:]}
    assert (verdicts["cosine"], verdicts["mixup"]) == ("helped", "not significant")
    assert "One rung is significantly better than the first: cosine decay" in said
    assert "After Holm correction for 6 comparisons" in said


@pytest.mark.parametrize(
    ("top1", "figure", "sentence"),
    [
        ([10, 10.2, 10.1], [2, 2.2, 2.1], "The gain in top-1 accuracy transfers to detection"),
        ([10, 10.2, 10.1], [2, -2.2, 0.1], "The gain in top-1 accuracy is not shown to transfer to detection"),
        ([10, 10.2, 10.1], [-2, -2.2, -2.1], "The gain in top-1 accuracy becomes a loss in detection."),
        ([10, -10.2, 0], [2, 2.2, 2.1], "which is not statistically significant: there is no established gain to transfer"),
        ([-10, -10.2, -10.1], [2, 2.2, 2.1], "there is no gain to transfer, but a loss"),
    ],
)
def test_a_gain_transfers_only_where_both_intervals_exclude_0(top1: list[float], figure: list[float], sentence: str) -> None:
    ladder = with_top1({rung: [50 + i * change / 6 for change in top1] for i, rung in enumerate(RUNGS)})
    content = summarise(ladder, detection={rung: [20 + i * change / 6 for change in figure] for i, rung in enumerate(RUNGS)})
    assert sentence in " ".join(content.findings)


def test_few_rungs_one_seed_and_constant_figures() -> None:
    few = transfer_summary.summarise(LADDER, results(detection=only(ALIKE, rungs=3)), rungs=RUNGS[:3])
    (answer,) = transfer_words.answers(few)
    assert answer.startswith("Detection: The steps from baseline to warm-up together change VOC AP50 all-point by")
    assert " ".join(few.findings).count(answer) == 1 and transfer_words.totals(few) == []
    assert "needs at least 4 rungs" in few.findings[-1]
    (answer,) = transfer_words.answers(transfer_summary.summarise(LADDER, results(detection=only(ALIKE, rungs=1)), rungs=RUNGS[:1]))
    whether = "The study cannot show whether rungs that classify better also detect better"
    assert answer == f"{whether}: a rank correlation needs at least 4 rungs, and it has 1."
    (answer,) = transfer_words.answers(summarise(detection={rung: [7.0] * 3 for rung in RUNGS}))
    assert "is the same for all rungs, so there is no correlation" in answer
    content = summarise(detection=only(ALIKE, seeds=1))
    (task,) = content.tasks
    assert {rung.figure.interval for rung in task.rungs} == {None}
    assert "in one training of each, which gives no estimate of the spread" in " ".join(content.findings)
    assert "better than the first" not in " ".join(content.findings)


def test_an_unfinished_study_and_fine_tunings_without_a_figure(tmp_path: Path) -> None:
    figures = {**ALIKE, "warmup": [], "cosine": [None, 25.0, 26.0], "mixup": [None] * 3}
    tasks = results(detection=figures)
    content = transfer_summary.summarise(LADDER, tasks, seeds=(0, 1, 2))
    rungs = {rung.rung: rung for rung in content.tasks[0].rungs}
    assert (content.finished, content.planned, content.tasks[0].correlation.n) == (18, 21, 5)
    assert rungs["cosine"].top1.values == (TOP1["cosine"][1], TOP1["cosine"][2])  # of the seeds that have a figure
    assert rungs["cosine"].difference.seeds == (1, 2)
    assert (rungs["mixup"].figure, rungs["mixup"].difference) == (None, None)
    said = " ".join(content.findings)
    for part in (
        "18 of 21 fine-tunings",
        "4 fine-tunings have no VOC AP50 all-point and are left out",
        "over the whole ladder is not known yet",
    ):
        assert part in said
    page = Page(report.write_transfer(content, LADDER, tmp_path).read_text(encoding="utf-8"))
    shown = {row[0].strip(): [cell.split() for cell in row[1:]] for row in page.rows[1:8]}
    assert (shown["+ warm-up"][1], shown["+ mixup"][1]) == (["not", "run"], ["none"])
    with pytest.raises(BadData, match="no finished fine-tuning"):
        transfer_summary.summarise(LADDER, {"detection": {}})


def test_seeds_and_rungs_that_are_not_asked_for_do_not_count() -> None:
    """A folder may also hold trainings of other commands, which are not part of the reported study."""
    asked = {rung: ALIKE[rung][:2] for rung in ("baseline", "mixup")}
    content = transfer_summary.summarise(LADDER, results(detection=ALIKE), seeds=[0, 1], rungs=["baseline", "mixup"])
    assert content == transfer_summary.summarise(LADDER, results(detection=asked), seeds=[0, 1], rungs=["baseline", "mixup"])
    assert (content.finished, content.planned) == (4, 4)
    assert [rung.title for rung in content.tasks[0].rungs] == ["baseline", "all tricks"]
    more = {rung: values[:2] for rung, values in ALIKE.items()} | {"cosine": []}
    content = transfer_summary.summarise(LADDER, results(detection=more), seeds=[0, 1], rungs=["baseline", "cosine"])
    assert "not finished: 2 of 4 fine-tunings" in " ".join(content.findings)
    with pytest.raises(BadData, match="no finished fine-tuning"):
        transfer_summary.summarise(LADDER, results(detection=ALIKE), seeds=[3])


# ---------------------------------------------------------------------------------------------------------------------
# files


def write(out: Path, tasks: dict[str, dict[str, dict[int, Any]]]) -> None:
    for task, by_rung in tasks.items():
        for rung, by_seed in by_rung.items():
            for seed, each in by_seed.items():
                (out / task / f"{rung}-{seed}").mkdir(parents=True)
                (out / task / f"{rung}-{seed}" / "result.json").write_text(json.dumps(to_builtins(each)))


def test_results_are_read_as_they_lie(tmp_path: Path) -> None:
    tasks = results(detection=ALIKE, segmentation=only(APART, rungs=2))
    write(tmp_path, tasks)
    assert transfer_summary.read(tmp_path, LADDER) == tasks
    assert transfer_summary.read(tmp_path / "nowhere", LADDER) == {}


def test_fields_that_an_older_version_did_not_write_have_their_defaults(tmp_path: Path) -> None:
    tasks: dict[str, Any] = results(detection=only(ALIKE, rungs=2))
    newer = to_builtins(tasks["detection"][RUNGS[1]][0])
    newer["recipe"] |= {"optimizer": "sgd"}
    tasks["detection"][RUNGS[1]][0] = newer
    write(tmp_path, tasks)
    assert transfer_summary.read(tmp_path, LADDER)["detection"][RUNGS[1]][0].recipe["optimizer"] == "sgd"


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"data_digest": "other"}, BadData, "warmup-0.*differ in data_digest"),
        ({"val_digest": "other"}, BadData, "differ in val_digest"),
        ({"recipe": {"name": "other"}}, BadData, "differ in recipe"),
        ({"seed": 1}, BadCheckpoint, "not of its folder"),
        ({"task": "segmentation"}, BadCheckpoint, "not of its folder"),
        ({"backbone": {"rung": "warmup", "seed": 0, "top1": 1.0}}, BadCheckpoint, "not in this ladder"),
        ({"backbone": None}, BadCheckpoint, "not a result file"),
        ({"measure": "voc_ap75"}, BadCheckpoint, "not a result file"),
    ],
)
def test_results_that_do_not_belong_together(change: dict[str, Any], error: type[Exception], words: str, tmp_path: Path) -> None:
    tasks: dict[str, Any] = results(detection=only(ALIKE, rungs=3))
    tasks["detection"]["warmup"][0] = to_builtins(tasks["detection"]["warmup"][0]) | change
    write(tmp_path, tasks)
    with pytest.raises(error, match=words) as raised:
        transfer_summary.read(tmp_path, LADDER)
    assert "\n" not in str(raised.value)


# ---------------------------------------------------------------------------------------------------------------------
# the report


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
    for part in ("<2 × CPU>", "c0ffee+", "with changes", "42 of 42 fine-tunings", "The ladder: every rung", "40,000 draws"):
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
    assert "What the detectors and segmenters see" in page.text
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


def test_the_backbones_gain_is_said_once() -> None:
    said = " ".join(summarise(detection=ALIKE, segmentation=APART).findings)
    assert said.count("The backbones' top-1 accuracy changes by") == 1


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
