"""The summary of a transfer study: its figures are correct, and its sentences claim no more than they show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import to_builtins
from msgspec.structs import replace
from scipy import stats

from tests.made_results import ALIKE, APART, LADDER, RUNGS, TOP1, only, results, summarise, with_top1, write
from tests.studies import Page
from trickzoo.errors import BadCheckpoint, BadData
from trickzoo.studies import report, transfer_summary, transfer_words
from trickzoo.studies.records import LadderStudy
from trickzoo.studies.results import read

ROOT = Path(__file__).parents[1]


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


def test_other_micro_batches_are_stated() -> None:
    found = results(detection=only(ALIKE), segmentation=only(APART))
    for task, micro in (("detection", 4), ("segmentation", 2)):
        for by_seed in found[task].values():
            by_seed |= {seed: replace(each, micro_batch=micro, recipe={**each.recipe, "batch_size": 8}) for seed, each in by_seed.items()}
    assert transfer_summary.summarise(LADDER, found).notes == ()
    found["detection"]["mixup"][1] = replace(found["detection"]["mixup"][1], micro_batch=8)
    study = transfer_summary.summarise(LADDER, found)
    (note,) = study.notes
    assert note.startswith("The training runs differ in their micro-batches (4 and 8 images)") and note in study.findings
    for by_seed in found["detection"].values():  # a file of a batch that is no number does not say which part of it was taken
        by_seed |= {seed: replace(each, recipe={**each.recipe, "batch_size": [8]}) for seed, each in by_seed.items()}
    assert transfer_summary.summarise(LADDER, found).notes == ()


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
    assert "in one training run of each, which gives no estimate of the spread" in " ".join(content.findings)
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
        "18 of the 21 fine-tuning runs",
        "4 fine-tuning runs have no VOC AP50 all-point and are left out",
        "over the whole ladder is not known yet",
    ):
        assert part in said
    page = Page(report.write_transfer(content, LADDER, tmp_path).read_text(encoding="utf-8"))
    shown = {row[0].strip(): [cell.split() for cell in row[1:]] for row in page.rows[1:8]}
    assert (shown["+ warm-up"][1], shown["+ mixup"][1]) == (["not", "run"], ["none"])
    with pytest.raises(BadData, match="no finished fine-tuning"):
        transfer_summary.summarise(LADDER, {"detection": {}})


def test_means_of_unequal_numbers_of_seeds_are_stated(tmp_path: Path) -> None:
    figures = {**ALIKE, "warmup": ALIKE["warmup"][:1], "mixup": [*ALIKE["mixup"][:2], None], "cosine": []}
    content = transfer_summary.summarise(LADDER, results(detection=figures), seeds=(0, 1, 2))
    of_rungs = [(list(TOP1[rung].values())[:n], ALIKE[rung][:n]) for rung, n in zip(RUNGS, (3, 3, 1, 3, 0, 3, 2), strict=True) if n]
    wanted = stats.spearmanr([[np.mean(top1), np.mean(figure)] for top1, figure in of_rungs])
    assert content.tasks[0].correlation.rho == pytest.approx(wanted.statistic)
    assert "over the means of 6 rungs (of 1 to 3 seeds each), Spearman's rank correlation" in transfer_words.answers(content)[0]
    page = Page(report.write_transfer(content, LADDER, tmp_path).read_text(encoding="utf-8"))
    assert "Rank correlation of the two over 6 rungs (of 1 to 3 seeds each): " in page.text
    assert "seeds each" not in " ".join(summarise(detection=ALIKE).findings)


def test_the_advice_on_more_seeds_says_that_the_ladder_has_to_train_them_first() -> None:
    spread = {rung: [30.0 + 5 * seed * (i + 1) % 7 for seed in range(3)] for i, rung in enumerate(RUNGS)}
    (advice,) = (each for each in summarise(detection=spread).findings if "--seeds" in each)
    assert "more on the same machine, after the ladder has trained these seeds)" in advice
    assert "after the ladder" not in " ".join(LADDER.findings)


def test_seeds_and_rungs_that_are_not_asked_for_do_not_count() -> None:
    """A folder may also hold trainings of other commands, which are not part of the reported study."""
    asked = {rung: ALIKE[rung][:2] for rung in ("baseline", "mixup")}
    content = transfer_summary.summarise(LADDER, results(detection=ALIKE), seeds=[0, 1], rungs=["baseline", "mixup"])
    assert content == transfer_summary.summarise(LADDER, results(detection=asked), seeds=[0, 1], rungs=["baseline", "mixup"])
    assert (content.finished, content.planned) == (4, 4)
    assert [rung.title for rung in content.tasks[0].rungs] == ["baseline", "all tricks"]
    more = {rung: values[:2] for rung, values in ALIKE.items()} | {"cosine": []}
    content = transfer_summary.summarise(LADDER, results(detection=more), seeds=[0, 1], rungs=["baseline", "cosine"])
    assert "2 of the 4 fine-tuning runs" in " ".join(content.findings)
    with pytest.raises(BadData, match="no finished fine-tuning"):
        transfer_summary.summarise(LADDER, results(detection=ALIKE), seeds=[3])


def test_a_rung_includes_the_steps_that_it_builds_on() -> None:
    """Mixup is added to label smoothing; distillation lies between the two in the ladder, and is no part of mixup."""
    ladder = read(ROOT / "benchmarks" / "results" / "ladder_imagenette128_mobilenet_v1_025_60_epochs" / "ladder.json", LadderStudy)
    kept = transfer_summary._part(ladder, ["baseline", "cosine", "mixup"])
    assert [rung.skipped for rung in kept.rungs] == [
        (),
        ("+ large batch, linear scaling", "+ warm-up", "+ no bias decay"),
        ("+ label smoothing",),
    ]


def test_the_backbones_gain_is_said_once() -> None:
    said = " ".join(summarise(detection=ALIKE, segmentation=APART).findings)
    assert said.count("The backbones' top-1 accuracy changes by") == 1


# ---------------------------------------------------------------------------------------------------------------------
# files


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
