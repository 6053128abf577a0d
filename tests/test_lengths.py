"""The effect of the same step in ladders of different length."""

from __future__ import annotations

from pathlib import Path

from benchmarks import lengths
from tests.studies import simulate

TOPS = {"baseline": [70.0, 71.0], "no_bias_decay": [70.0, 70.5], "cosine": [73.0, 73.5], "mixup": [72.0, 73.0]}


def test_steps_are_compared_that_several_lengths_measure_alone(tmp_path: Path) -> None:
    short = simulate(tmp_path / "short", TOPS, changes={"epochs": "4"})
    long = simulate(
        tmp_path / "long", {rung: [top + i for i, top in enumerate(tops)] for rung, tops in TOPS.items()}, changes={"epochs": "8"}
    )
    other = simulate(tmp_path / "other", {rung: TOPS[rung] for rung in ("baseline", "cosine")}, changes={"epochs": "16"})
    found = lengths.by_length([long, short, other])
    # no other rung is measured without the one below it, and the third study ends at another rung
    assert {step for _, step in found} == {"+ cosine decay", "baseline to mixup"}
    for differences, expected in zip(found.values(), (3.0, 2.0), strict=True):
        assert list(differences) == [4, 8]
        assert differences[4].mean == expected


def test_the_plot_is_that_of_the_studies() -> None:
    drawn = lengths.PLOT.read_text(encoding="utf-8")
    points = [line for line in lengths.draw().splitlines() if line.lstrip().startswith("<use ")]
    assert points == [line for line in drawn.splitlines() if line.lstrip().startswith("<use ")], "run `python -m benchmarks.lengths`"
