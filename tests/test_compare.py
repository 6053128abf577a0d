"""`trickzoo compare`: the paired difference of two classifiers."""

from __future__ import annotations

import csv
import json
import os
from fractions import Fraction
from math import comb, sqrt
from pathlib import Path

import pytest
from scipy import stats

from tests.commands import Call, caller
from trickzoo.cli import zoo
from trickzoo.studies.comparison import compare, mcnemar


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo compare`; (exit status, stdout, stderr)."""
    return caller(capsys, zoo, "compare")


def written(path: Path, right: str, names: str = "") -> Path:
    """Write predictions for images of class "a": a letter of `right` is what is predicted for an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "class", "top1", "p1"))
        writer.writerows((names[i] if names else f"{i}.jpg", "a", predicted, "0.5") for i, predicted in enumerate(right))
    return path


@pytest.mark.parametrize(("b", "c"), [(0, 0), (0, 1), (3, 3), (2, 9), (9, 2), (0, 30), (41, 60)])
def test_mcnemars_p_is_the_sum_over_the_coins_tails(b: int, c: int) -> None:
    n = b + c
    tail = sum(Fraction(comb(n, k), 2**n) for k in range(min(b, c) + 1))
    assert mcnemar(b, c) == pytest.approx(float(min(2 * tail, Fraction(1))))


def test_the_difference_is_paired(tmp_path: Path) -> None:
    one, two = written(tmp_path / "1.csv", "aaaaabbbaa"), written(tmp_path / "2.csv", "aaabbaaaaa")
    found = compare(one, two)
    assert (found.n, found.top1, found.difference) == (10, (70.0, 80.0), pytest.approx(10.0))
    assert [each.image for each in found.lost] == ["3.jpg", "4.jpg"]
    assert [(each.image, each.label, each.first, each.second) for each in found.won] == [(f"{i}.jpg", "a", "b", "a") for i in (5, 6, 7)]
    assert found.p == 1.0
    p, q = 3 / 12, 4 / 12
    half = stats.norm.ppf(0.975) * sqrt((p + q - (q - p) ** 2) / 12)
    assert found.interval == pytest.approx((100 * (q - p - half), 100 * (q - p + half)))


def test_equal_predictions_and_a_clear_win(tmp_path: Path) -> None:
    one, two = written(tmp_path / "1.csv", "b" * 40 + "a" * 60), written(tmp_path / "2.csv", "a" * 100)
    same = compare(one, one)
    assert (same.difference, same.p, same.lost, same.won) == (0.0, 1.0, (), ())
    assert same.interval[0] < 0 < same.interval[1]
    clear = compare(one, two)
    assert clear.p < 1e-9 and clear.interval[0] > 25 and len(clear.won) == 40


def test_the_command_prints_and_writes_what_changed(call: Call, tmp_path: Path) -> None:
    written(tmp_path / "one" / "predictions.csv", "aaaaabbbaa")
    two, out = written(tmp_path / "2.csv", "aaabbaaaaa"), tmp_path / "changed.csv"
    status, text, _ = call(tmp_path / "one", two, "--out", out)
    assert status == 0
    assert "difference +10.00 points (95 % CI −" in text and "not significant at 0.05" in text
    assert "only the first is right: 2 images" in text and "only the second is right: 3 images" in text
    assert [row["change"] for row in csv.DictReader(out.open())] == ["lost"] * 2 + ["won"] * 3
    found = json.loads(call(tmp_path / "one", two, "--json")[1])
    assert (found["n"], len(found["lost"]), found["won"][0]["image"]) == (10, 2, "5.jpg")
    assert call(tmp_path / "one" / "model.safetensors", two)[1].splitlines()[1:] == text.splitlines()[1:]


def test_synsets_are_printed_in_words(call: Call, tmp_path: Path) -> None:
    for name, predicted in (("1.csv", "n01440764"), ("2.csv", "n02102040")):
        (tmp_path / name).write_text(f"image,class,top1\n0.jpg,n01440764,{predicted}\n")
    text = call(tmp_path / "1.csv", tmp_path / "2.csv")[1]
    assert "0.jpg  tench  tench  English springer" in text


def test_what_cannot_be_compared(call: Call, tmp_path: Path) -> None:
    one = written(tmp_path / "1.csv", "aaa")
    other, twice, fewer = (tmp_path / f"{name}.csv" for name in ("other", "twice", "fewer"))
    other.write_text("image,class,top1\n0.jpg,a,a\n1.jpg,b,a\n2.jpg,a,a\n")
    written(twice, "aaa", "xxy")
    written(fewer, "aa")
    (tmp_path / "cut.csv").write_bytes(one.read_bytes()[: -len("a,0.5\r\n")])
    (tmp_path / "cut_less.csv").write_bytes(one.read_bytes()[: -len(",0.5\r\n")])
    (tmp_path / "text.csv").write_text("hello\n")
    (tmp_path / "latin.csv").write_bytes("image,class,top1\nfluß,a,a\n".encode("latin-1"))
    os.mkfifo(tmp_path / "fifo.csv")
    for path, message in (
        (tmp_path / "fifo.csv", "fifo.csv cannot be read (not a regular file)"),
        (tmp_path / "latin.csv", "latin.csv cannot be read (it is not a CSV file)"),
        (tmp_path / "gone.csv", "gone.csv cannot be read (No such file or directory); name the folder of a training run"),
        (tmp_path, "predictions.csv cannot be read"),
        (tmp_path / "text.csv", "text.csv has no columns image, class and top1"),
        (tmp_path / "cut.csv", "cut.csv is damaged: not all of its rows have the same columns; evaluate again with --predictions"),
        (tmp_path / "cut_less.csv", "cut_less.csv is damaged"),
        (twice, "twice.csv has two rows for the same image"),
        (fewer, "fewer.csv has no prediction for 2.jpg, as"),
        (other, "1.jpg is a in"),
    ):
        status, out, err = call(one, path)
        assert (status, out, message in err, err.count("\n")) == (2, "", True, 1), err
