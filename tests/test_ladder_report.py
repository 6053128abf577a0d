"""What a ladder study's report says: no more than its figures allow, and each of them right."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from PIL import Image
from scipy import stats

from tests.studies import Page, simulate
from trickzoo.studies import report

TOPS = {
    "baseline": [70.0, 71.0, 70.4],
    "warmup": [70.3, 70.8, 70.6],
    "no_bias_decay": [69.0, 69.6, 69.3],
    "cosine": [73.1, 73.6, 73.3],
    "mixup": [73.9, 74.5, 74.3],
}


def test_findings_claim_no_more_than_the_intervals(tmp_path: Path) -> None:
    content = simulate(tmp_path, TOPS)
    rungs = {rung["rung"]: rung for rung in content["rungs"]}
    for rung in list(TOPS)[1:]:
        wanted = stats.ttest_rel(TOPS[rung], TOPS[rungs[rung]["base"]])
        assert rungs[rung]["difference"]["interval"] == pytest.approx(list(wanted.confidence_interval(0.95)))
        low, high = rungs[rung]["difference"]["interval"]
        assert rungs[rung]["difference"]["verdict"] == ("helped" if low > 0 else "hurt" if high < 0 else "not told from noise")
    total, helped, hurt, unclear, looks, _ = content["findings"]
    assert total.startswith("All tricks together raise top-1 accuracy by 3.77 points, from 70.47 % to 74.23 % (95 % interval +3.")
    assert "cosine decay (+4.03), mixup with 1 step before it (+0.90)" in helped
    assert "no bias decay (−1.27)" in hurt
    assert "warm-up with 1 step before it (+0.10)" in unclear
    assert "4 looks" in looks
    assert "Holm's correction" in looks


@pytest.mark.parametrize(
    ("tops", "sentence"),
    [
        ({"baseline": [70.0], "mixup": [72.0]}, "by +2.00 points, from 70.00 % to 72.00 %, in one training of each. One says nothing"),
        ({"baseline": [70.0, 70.5], "mixup": [72.0, 72.5]}, "alike for all 2 seeds"),
        ({"baseline": [70.0, 72.0], "mixup": [71.0, 72.1]}, "make no difference that can be told from noise"),
        ({"baseline": [74.0, 74.1, 74.2], "mixup": [71.0, 71.2, 71.1]}, "All tricks together lower top-1 accuracy by 3.00 points"),
        ({"baseline": [70.0, 70.1, 70.2], "cosine": [71.0, 71.2, 71.1]}, "The steps from baseline to cosine decay together raise"),
        ({"baseline": [70.0, 70.1, 70.2], "mixup": [71.0, 71.11]}, "raise top-1 accuracy by 1.00 points (95 %"),
    ],
)
def test_the_first_sentence(tops: dict[str, list[float]], sentence: str, tmp_path: Path) -> None:
    assert sentence in simulate(tmp_path, tops)["findings"][0]


def test_every_figure_of_the_report_is_the_jsons(tmp_path: Path) -> None:
    path = report.write_ladder(simulate(tmp_path, TOPS), tmp_path)
    content, page = json.loads((tmp_path / "ladder.json").read_text()), Page(path.read_text(encoding="utf-8"))
    for finding in content["findings"]:
        assert finding in page.text
    rows = page.rows[1 : 1 + len(content["rungs"])]
    for row, rung in zip(rows, content["rungs"], strict=True):
        top1, difference = rung["top1"], rung["difference"]
        wanted = [top1["mean"], *top1["interval"], top1["s"], top1["n"]]
        if difference:
            wanted += [difference["mean"], *difference["interval"], difference["p"], difference["p_holm"]]
        wanted.append(sum(rung["wall_seconds"]) / len(rung["wall_seconds"]) / 60)
        shown = [float(number.replace("−", "-")) for number in re.findall(r"[+−]?\d+\.?\d*", " ".join(row[1:]))]
        assert row[0].startswith(rung["title"])
        assert shown == pytest.approx(wanted, abs=0.0051)
        assert ("helped" in row[5], "hurt" in row[5]) == (rung["rung"] in ("cosine", "mixup"), rung["rung"] == "no_bias_decay")
    seeds = page.rows[2 + len(content["rungs"]) :]
    assert [[float(cell) for cell in row[1:]] for row in seeds] == list(TOPS.values())
    for part in ("<2 × CPU>", "c0ffee+", "with changes", "last epoch", "mixup 0 → 0.2", "no epoch was chosen"):
        assert part in page.text


def test_the_report_needs_nothing_else(tmp_path: Path) -> None:
    text = report.write_ladder(simulate(tmp_path, TOPS), tmp_path).read_text(encoding="utf-8")
    assert [address for address in Page(text).addresses if not address.startswith("#")] == []
    assert not re.findall(r"@import|url\((?!#)", text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert "prefers-color-scheme: dark" in text
    assert {file.name for file in tmp_path.iterdir() if file.is_file()} == {
        *("ladder.json", "ladder.csv", "ladder.png", "ladder.svg", "report.html")
    }
    with Image.open(tmp_path / "ladder.png") as image:
        assert image.width > 1000


def test_the_table_as_csv(tmp_path: Path) -> None:
    content = simulate(tmp_path, TOPS | {"mixup": [73.9, 74.5]})
    report.write_ladder(content, tmp_path)
    rows = list(csv.DictReader((tmp_path / "ladder.csv").open()))
    assert [float(row["top1_mean"]) for row in rows] == pytest.approx([rung["top1"]["mean"] for rung in content["rungs"]])
    assert (rows[0]["difference_mean"], rows[-1]["top1_seed_2"], rows[-1]["difference_n"]) == ("", "", "2")
    assert float(rows[-1]["difference_high"]) == pytest.approx(content["rungs"][-1]["difference"]["interval"][1])
    assert "not finished: 14 of 15 trainings" in " ".join(content["findings"])


def test_a_rung_that_was_not_run_yet(tmp_path: Path) -> None:
    content = simulate(tmp_path, {"baseline": [70.0, 71.0], "cosine": [], "mixup": [72.0]})
    page = Page(report.write_ladder(content, tmp_path).read_text(encoding="utf-8"))
    assert "not run" in page.rows[2][1]
    assert "3 of 6 trainings" in page.text
    assert content["rungs"][2]["difference"] is None  # what it adds to is not there
