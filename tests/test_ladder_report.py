"""The report of a ladder study: its sentences claim no more than the figures show, and its figures are correct."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import to_builtins
from PIL import Image
from scipy import stats

from tests.studies import FIELDS, Page, plan, simulate
from trickzoo.errors import BadCheckpoint, BadData
from trickzoo.studies import ladder_summary, outlook, plots, report, words
from trickzoo.studies.records import LadderStudy, TransferStudy
from trickzoo.studies.results import ClassifierResult, FineTuningResult, read

TOPS = {
    "baseline": [70.0, 71.0, 70.4],
    "warmup": [70.3, 70.8, 70.6],
    "no_bias_decay": [69.0, 69.6, 69.3],
    "cosine": [73.1, 73.6, 73.3],
    "mixup": [73.9, 74.5, 74.3],
}


def test_findings_claim_no_more_than_the_intervals(tmp_path: Path) -> None:
    content = simulate(tmp_path, TOPS)
    rungs = {rung.rung: rung for rung in content.rungs}
    for rung in list(TOPS)[1:]:
        wanted = stats.ttest_rel(TOPS[rung], TOPS[rungs[rung].base])
        assert rungs[rung].difference.interval == pytest.approx(list(wanted.confidence_interval(0.95)))
        low, high = rungs[rung].difference.interval
        assert rungs[rung].difference.verdict == ("helped" if low > 0 else "hurt" if high < 0 else "not significant")
    total, helped, hurt, unclear, corrected, majority, advice, _ = content.findings
    assert total.startswith(
        "The steps from baseline to mixup together raise top-1 accuracy by 3.77 points, from 70.47 % to 74.23 % (95 % CI +3."
    )
    assert "cosine decay (+4.03), mixup with 1 step before it (+0.90)" in helped
    assert "no bias decay (−1.27)" in hurt
    assert "warm-up with 1 step before it (+0.10)" in unclear
    assert corrected.startswith(
        "After Holm correction for 4 comparisons, these differences are significant: no bias decay, cosine decay, mixup"
    )
    assert majority.startswith("Predicting the largest class for every image gives 26.50 %, chance 25.00 % (4 classes). Every rung is")
    assert "3 seeds detect" in advice


@pytest.mark.parametrize(
    ("tops", "sentence"),
    [
        (
            {"baseline": [70.0], "mixup": [72.0]},
            "by +2.00 points, from 70.00 % to 72.00 %, in one training run of each, which gives no estimate",
        ),
        ({"baseline": [70.0, 70.5], "mixup": [72.0, 72.5]}, "equally for all 2 seeds"),
        ({"baseline": [70.0, 72.0], "mixup": [71.0, 72.1]}, "The difference is not statistically significant (95 % CI"),
        (
            {"baseline": [74.0, 74.1, 74.2], "mixup": [71.0, 71.2, 71.1]},
            "All tricks together lower top-1 accuracy by 3.00 points",
        ),
        ({"baseline": [70.0, 70.1, 70.2], "cosine": [71.0, 71.2, 71.1]}, "The steps from baseline to cosine decay together raise"),
        ({"baseline": [70.0, 70.1, 70.2], "mixup": [71.0, 71.11]}, "raise top-1 accuracy by 1.00 points (95 % CI"),
    ],
)
def test_the_first_sentence(tops: dict[str, list[float]], sentence: str, tmp_path: Path) -> None:
    study = simulate(tmp_path, tops)
    assert sentence in study.findings[0]
    last = "all tricks" if "mixup" in tops else "+ cosine decay with 3 steps before it"
    assert [words.title(rung) for rung in study.rungs] == ["baseline", last]


def test_a_difference_over_fewer_seeds_than_its_rung_says_so(tmp_path: Path) -> None:
    content = simulate(tmp_path, {"baseline": [70.0, 71.0], "cosine": [72.0, 73.1, 72.6], "mixup": [71.3, 71.5, 71.0]})
    rows = Page(report.write_ladder(content, tmp_path).read_text(encoding="utf-8")).rows
    cells = [["".join(cell.split()) for cell in row[3:5]] for row in rows[2:4]]
    assert cells == [["3", "+2.05+1.41to+2.692seeds"], ["3", "−1.30−2.59to−0.01"]]


def test_a_significant_p_is_not_rounded_to_the_level() -> None:
    shown = [words.probability(p) for p in (0.0004, 0.0094, 0.0494, 0.0497, 0.04999, 0.05, 0.0504)]
    assert shown == ["< 0.001", "0.009", "0.049", "< 0.050", "< 0.050", "0.050", "0.050"]


def test_a_single_rung_has_no_gain(tmp_path: Path) -> None:
    said = simulate(tmp_path, {"baseline": [70.0, 71.0]}).findings
    assert [sentence.split()[0] for sentence in said] == ["Predicting", "Accuracy"]


COMMAND = "trickzoo ladder --data <a> --low-precision bf16 --seeds 3"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study whose report is written; nobody is to write there."""
    folder = tmp_path_factory.mktemp("written")
    report.write_ladder(simulate(folder, TOPS, {"command": COMMAND}), folder)
    return folder


def test_every_figure_of_the_report_is_the_jsons(written: Path) -> None:
    content, page = json.loads((written / "ladder.json").read_text()), Page((written / "report.html").read_text(encoding="utf-8"))
    for finding in content["findings"]:
        assert finding in page.text
    rows = page.rows[1 : 1 + len(content["rungs"])]
    for row, rung in zip(rows, content["rungs"], strict=True):
        top1, difference = rung["top1"], rung["difference"]
        wanted = [top1["mean"], *top1["interval"], top1["s"], top1["n"]]
        if difference:
            wanted += [difference["mean"], *difference["interval"], difference["p"], difference["p_holm"]]
            wanted += [difference["detectable"]] if difference["verdict"] == "not significant" else []
        wanted.append(sum(rung["wall_seconds"]) / len(rung["wall_seconds"]) / 60)
        shown = [float(number.replace("−", "-")) for number in re.findall(r"[+−]?\d+\.?\d*", " ".join(row[1:]))]
        assert row[0].startswith(rung["title"])
        assert shown == pytest.approx(wanted, abs=0.0051)
        assert ("helped" in row[5], "hurt" in row[5]) == (rung["rung"] in ("cosine", "mixup"), rung["rung"] == "no_bias_decay")
    majority, chance = page.rows[1 + len(content["rungs"]) : 3 + len(content["rungs"])]
    assert (majority[:2], chance[:2]) == (["always the largest class", "26.50"], ["chance", "25.00"])
    seeds = page.rows[4 + len(content["rungs"]) :]
    assert [[float(cell) for cell in row[1:]] for row in seeds] == list(TOPS.values())
    for part in ("<2 × CPU>", "c0ffee+", "with changes", "last epoch", "mixup 0 → 0.2", "no epoch was chosen"):
        assert part in page.text


def test_the_report_needs_nothing_else(written: Path) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    assert [address for address in Page(text).addresses if not address.startswith("#")] == []
    assert not re.findall(r"@import|url\((?!#)", text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert "prefers-color-scheme: dark" in text
    assert {file.name for file in written.iterdir() if file.is_file()} == {
        *("ladder.json", "ladder.csv", "ladder.png", "ladder.svg", "report.html")
    }
    with Image.open(written / "ladder.png") as image:
        assert image.width > 1000


def test_no_line_breaks_within_an_option_or_before_a_percent_sign(written: Path) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    assert re.search(r"\.unbroken \{ white-space: nowrap; \}", text)
    whole = re.findall(r'<span class="unbroken">(.*?)</span>', text)
    assert {"--data", "--low-precision", "--seeds 3", "70.47 %", "74.23 %"} <= set(whole)
    assert COMMAND in Page(text).text


def test_the_lowest_panel_of_each_column_shows_the_epochs(tmp_path: Path) -> None:
    panels = [axes for axes in plots.curves(simulate(tmp_path, TOPS)).axes if axes.get_visible()]
    assert [axes.xaxis.get_major_ticks(1)[0].label1.get_visible() for axes in panels] == [False, True, True, True, True]


def test_the_table_as_csv(tmp_path: Path) -> None:
    content = simulate(tmp_path, TOPS | {"mixup": [73.9, 74.5]})
    report.write_ladder(content, tmp_path)
    rows = list(csv.DictReader((tmp_path / "ladder.csv").open()))
    assert [float(row["top1_mean"]) for row in rows] == pytest.approx([rung.top1.mean for rung in content.rungs])
    assert (rows[0]["difference_mean"], rows[-1]["top1_seed_2"], rows[-1]["difference_n"]) == ("", "", "2")
    assert float(rows[-1]["difference_high"]) == pytest.approx(content.rungs[-1].difference.interval[1])
    assert "14 of the 15 training runs" in " ".join(content.findings)


def test_power_is_that_of_the_seeds_of_the_comparison(tmp_path: Path) -> None:
    """Two rungs have five seeds, and the rungs between them three: these detect only what three seeds detect."""
    tops = {
        "baseline": [70.1, 69.0, 71.2, 70.5, 70.2],
        "cosine": [75.0, 74.2, 76.3],
        "label_smoothing": [75.1, 74.1, 76.4],
        "mixup": [74.0, 73.0, 75.0, 74.5, 74.1],
    }
    advice = next(each for each in simulate(tmp_path, tops).findings if "pooled" in each)
    assert "3 seeds detect a difference" in advice


def test_the_time_of_more_seeds_is_that_of_the_missing_trainings(tmp_path: Path) -> None:
    study = simulate(tmp_path, {"baseline": [70.0, 71.0, 70.4, 70.8, 70.2], "cosine": [71.0, 70.6, 71.6], "mixup": [71.2]})
    found = outlook.of_ladder(study)
    assert found is not None and found.seconds(5) == 15 * 90
    assert found.seconds_left(5) == (0 + 2 + 4) * 90
    assert found.seconds_left(3) == (0 + 0 + 2) * 90


@pytest.mark.parametrize("shared", [True, False], ids=["all with the first", "each with the one before"])
def test_the_interval_of_the_pooled_spread_holds_it_in_95_of_100_studies(shared: bool) -> None:
    """The differences of a study share rungs. If they counted as independent, the interval would hold it in 80 to 90 studies."""
    random, held = np.random.default_rng(0), 0
    pairs = [(rung, 0 if shared else rung - 1) for rung in range(1, 8)]
    for study in random.standard_normal((1000, 8, 5)):
        spreads = [(float((study[rung] - study[base]).std(ddof=1)), 4, {str(rung), str(base)}) for rung, base in pairs]
        low, high = outlook.pooled_spread(spreads)[1]
        held += low <= 2**0.5 <= high
    assert 0.93 < held / 1000 < 0.985


def test_the_spread_is_pooled_over_the_comparisons_that_have_one(tmp_path: Path) -> None:
    found = outlook.of_ladder(simulate(tmp_path, {"baseline": [70.0, 71.0, 70.4], "cosine": [71.0, 70.6, 71.6], "mixup": [71.2]}))
    assert found is not None and (found.pooled, found.comparisons) == (1, 2)


# ---------------------------------------------------------------------------------------------------------------------
# trainings that differ in more than rung and seed


def change(out: Path, training: str, **fields: Any) -> None:
    """Change fields of the result file of a training."""
    path = out / training / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_other_micro_batches_are_stated(tmp_path: Path) -> None:
    """The batch is 8 in the first rung and 16 in the others, so that whole batches differ and are the same part of their batch."""
    whole = {"baseline": 8, "cosine": 16, "mixup": 16}
    tops = {rung: values[:2] for rung, values in TOPS.items() if rung in whole}
    simulate(tmp_path, tops)

    def summary(**micro: int) -> LadderStudy:
        for rung, images in (whole | micro).items():
            change(tmp_path, f"{rung}-0", micro_batch=images)
        return ladder_summary.summarise(plan(rungs=tuple(tops)), tmp_path)

    assert summary().notes == summary(cosine=8, mixup=8).notes == ()
    study = summary(cosine=4)
    (note,) = study.notes
    assert note.startswith("The training runs differ in their micro-batches (4, 8 and 16 images), which change the outcome too")
    assert note in study.findings and note in Page(report.write_ladder(study, tmp_path).read_text(encoding="utf-8")).text


def test_training_runs_in_different_environments_are_noted(tmp_path: Path) -> None:
    """A library that takes no part in a training run, and the kernel of the same machine, do not matter."""
    tops = {rung: values[:2] for rung, values in TOPS.items()}
    simulate(tmp_path, tops)
    same = {"hardware": "2 × A", "commit": "0123456789+", "versions": {"torch": "2.9.0", "onnx": "1.0"}}
    for rung in tops:
        change(tmp_path, f"{rung}-0", **same)
        change(tmp_path, f"{rung}-1", **same | {"platform": "another kernel", "versions": {"torch": "2.9.0", "onnx": "2.0"}})
    assert "The environment" not in " ".join(ladder_summary.summarise(plan(rungs=tuple(tops)), tmp_path).findings)
    change(tmp_path, "mixup-0", hardware="1 × B", commit="abcdef0123", processes=2, versions={"torch": "2.10.0"})
    assert (
        "The environment of the training runs differs, which can change a result too: machine (1 × B; 2 × A), processes (1; 2), "
        "commit (0123456+; abcdef0), torch (2.10.0; 2.9.0)."
    ) in ladder_summary.summarise(plan(rungs=tuple(tops)), tmp_path).findings


@pytest.mark.parametrize(("field", "digest"), [("pretrained", "weights_sha256"), ("teacher", "teacher_sha256")])
def test_weights_that_changed_between_seeds_are_refused(field: str, digest: str, tmp_path: Path) -> None:
    """Each command trains its own seeds and compares their weights, but the report includes those of earlier commands."""
    options = {"changes": {**FIELDS, "pretrained": "own.pth"}} if field == "pretrained" else {"teacher": "own.pth"}
    tops = {"baseline": [70.0, 71.0], "distillation" if field == "teacher" else "cosine": [72.0, 74.0]}
    simulate(tmp_path, tops, {digest: "a" * 64}, **options)
    change(tmp_path, f"{list(tops)[1]}-1", **{digest: "b" * 64})
    with pytest.raises(BadData, match=r"holds training runs with different weights: the file of own\.pth has changed; name another --out"):
        ladder_summary.summarise(plan(rungs=tuple(tops), **options), tmp_path)


def test_a_rung_that_was_not_run_yet(tmp_path: Path) -> None:
    content = simulate(tmp_path, {"baseline": [70.0, 71.0], "cosine": [], "mixup": [72.0]})
    page = Page(report.write_ladder(content, tmp_path).read_text(encoding="utf-8"))
    assert "not run" in page.rows[2][1]
    assert "3 of 6 training runs" in page.text
    assert "3 of the 6 training runs of these rungs and seeds are finished; the table counts those of each rung." in page.text
    assert content.rungs[2].difference is None  # the rung that it builds on has no training


# ---------------------------------------------------------------------------------------------------------------------
# the largest class, and the ends of the scale


def test_a_ladder_that_does_no_better_than_the_largest_class_claims_nothing(tmp_path: Path) -> None:
    """Of 2,000 images 26.5 % are of the largest class; the Wilson interval of 28.2 % begins at 26.3 %."""
    content = simulate(tmp_path, {"baseline": [25.0, 25.1, 25.2], "cosine": [26.0, 26.2, 26.1], "mixup": [28.2, 28.1, 28.3]})
    first, *rest = content.findings
    assert first.startswith("No rung does significantly better than predicting the largest class for every image (26.50 %, chance 25.00 %")
    assert not re.search("raise|improve|significant:|points", " ".join(rest))
    content = simulate(tmp_path, {"baseline": [25.0, 25.1, 25.2], "cosine": [26.0, 26.2, 26.1], "mixup": [28.7, 28.6, 28.8]})
    assert "not significantly better than the largest class: baseline, cosine decay." in " ".join(content.findings)
    assert "The steps from baseline to mixup together raise" in content.findings[0]


def test_result_files_without_the_largest_class_count_as_before(tmp_path: Path) -> None:
    content = simulate(tmp_path, TOPS, {"majority": None, "num_classes": None})
    assert (content.majority, content.num_classes) == (None, None)
    page = Page(report.write_ladder(content, tmp_path).read_text(encoding="utf-8"))
    assert "largest class" not in page.text
    assert content.findings[0] == simulate(tmp_path, TOPS).findings[0]


def test_intervals_of_percentages_end_at_0_and_100(tmp_path: Path) -> None:
    content = simulate(tmp_path, {"baseline": [0.5, 3.0], "mixup": [97.0, 99.8]})
    (low, _), (_, high) = (rung.top1.interval for rung in content.rungs if rung.top1 and rung.top1.interval)
    assert (low, high) == (0.0, 100.0)
    old = to_builtins(content)
    old["rungs"][0]["top1"]["interval"] = [-14.1, 17.6]
    (tmp_path / "ladder.json").write_text(json.dumps(old))
    assert read(tmp_path / "ladder.json", LadderStudy).rungs[0].top1.interval == (0.0, 17.6)


def test_intervals_of_differences_end_at_100_points(tmp_path: Path) -> None:
    found = simulate(tmp_path, {"baseline": [5.0, 50.0], "mixup": [90.0, 60.0]}).rungs[1].difference
    assert found is not None and (found.interval, found.verdict) == ((-100.0, 100.0), "not significant")


def test_summaries_of_older_versions_are_read(written: Path, tmp_path: Path) -> None:
    path = tmp_path / "ladder.json"
    old = json.loads((written / "ladder.json").read_text())
    del old["majority"], old["num_classes"]
    for rung in old["rungs"][1:]:
        del rung["difference"]["detectable"]
        rung["difference"]["verdict"] = {"not significant": "not told from noise"}.get(rung["difference"]["verdict"], "helped")
    path.write_text(json.dumps(old))
    assert read(path, LadderStudy).rungs == simulate(tmp_path, TOPS).rungs


@pytest.mark.parametrize(
    "change",
    [
        {"rungs": []},
        {"n_val": 0},
        {"baseline": {"name": 3}},
        {"total": {"from": "baseline", "to": "nowhere", "whole": True}},
        {"title": ["a"]},
        {"majority": 130.0},
        *({"rungs.0": change} for change in ({"rung": "../../x"}, {"seeds": [0]}, {"top1": {"values": []}}, {"wall_seconds": ["1"]})),
        *({"rungs.0.top1": change} for change in ({"values": [70.0, 1e300, 70.0]}, {"mean": "70"}, {"interval": [3, 2]}, {"n": 7})),
        *({"rungs.1.difference": change} for change in ({"p": None}, {"s": 0.0}, {"s": 1e-320}, {"seeds": [0]})),
    ],
)
def test_damaged_summaries_end_in_a_line(change: dict[str, Any], summary: dict[str, Any], tmp_path: Path) -> None:
    content = json.loads(json.dumps(summary))
    ((place, values),) = change.items() if any("." in key for key in change) else [("", change)]
    inside: Any = content
    for key in filter(None, place.split(".")):
        inside = inside[int(key) if key.isdigit() else key]
    inside |= values
    path = tmp_path / "ladder.json"
    path.write_text(json.dumps(content))
    with pytest.raises(BadCheckpoint, match="not the summary of a ladder study") as raised:
        read(path, LadderStudy)
    assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return to_builtins(simulate(tmp_path_factory.mktemp("study"), TOPS))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"top1": NaN}', '{"top1": 1e999}', "", "\0", '{"seed": 1' + "0" * 5000 + "}"])
def test_damaged_json_files_give_one_line_of_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    for kind in (ClassifierResult, FineTuningResult, LadderStudy, TransferStudy):
        with pytest.raises(BadCheckpoint, match=r"result\.json") as raised:
            read(path, kind)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("change", [{"top1": "70"}, {"top1": 170.0}, {"n": 0}, {"wall_seconds": -1.0}, {"versions": [1]}])
def test_damaged_results_end_in_a_line(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"baseline-0/result\.json is not a result file of a training run; move it away"):
        simulate(tmp_path, TOPS, change)


def test_a_log_that_cannot_be_read_leaves_the_curve_out(tmp_path: Path) -> None:
    simulate(tmp_path, TOPS)
    (tmp_path / "mixup-0" / "metrics.jsonl").write_text('{"epoch": "x", "top1": {}}\n')
    content = ladder_summary.summarise(plan(rungs=tuple(TOPS), seeds=3), tmp_path)
    assert [len(curve) for curve in content.rungs[-1].curves] == [0, 3, 3]
    report.write_ladder(content, tmp_path)
