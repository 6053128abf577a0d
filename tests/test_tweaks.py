"""The published figures of the tweaks, and that the plot shows them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import tweaks as plot
from benchmarks.tweaks import over_b, rungs, series
from trickzoo.studies.records import LadderStudy
from trickzoo.studies.results import read
from trickzoo.weights import manifest


def test_the_series_hold_the_published_figures() -> None:
    found = {(each.who, each.depth): each.top1 for each in series(plot.FOLDER / "paper.json")}
    assert found["the paper", 50] == {"": 76.21, "b": 76.66, "c": 76.87, "d": 77.16}
    assert found["OpenMMLab", 50] == {"b": 76.55, "c": 77.01, "d": 77.54}
    assert found["GluonCV", 152] == {"": 79.22, "b": 79.69, "c": 80.01, "d": 80.26}
    assert len(found) == 7
    for (who, depth), top1 in found.items():  # the zoo's records state GluonCV's figures too, from another table
        if who == "GluonCV":
            for letter in "bc":
                metrics = manifest.find(f"resnet{depth}_{letter}.gluon_in1k").metrics
                assert top1[letter] in {metric.top1 for metric in metrics if "GluonCV" in metric.source}


def test_the_gains_of_the_ladder_are_paired_by_seed() -> None:
    study = read(plot.LADDER, LadderStudy)
    b, c, d = rungs(study)
    assert [rung.recipe.rpartition(".")[2] for rung in (b, c, d)] == ["low_precision", "c", "d"]
    assert c.difference is not None and d.difference is not None and d.base == "c"
    gains = over_b(study)
    assert gains["c"] == pytest.approx(c.difference.values, abs=1e-9)
    assert gains["d"] == pytest.approx([x + y for x, y in zip(c.difference.values, d.difference.values, strict=True)], abs=1e-9)


def marks(svg: str) -> tuple[list[str], list[tuple[str, str]], NDArray[np.float64]]:
    """Return the texts of a plot, the shape and the style of every mark, and (n, 2) places, from 0 to 1 in each panel.

    Such places do not depend on the width of the texts beside a panel, which Matplotlib's releases compute differently. Those of a legend
    would, and are left out. The ticks are marks too, so that the places and the texts of the ticks determine the values.
    """
    texts, kinds, places = re.findall(r"<text [^>]*>([^<]*)", svg), [], []
    for panel in svg.split('<g id="axes_')[1:]:
        kinds += re.findall(r'<use xlink:href="#(\w+)" .*(style="[^"]*")', panel)
        drawn, _, _ = panel.partition('<g id="legend_')
        at = np.array(re.findall(r'<use .*x="([\d.]+)" y="([\d.]+)"', drawn), np.float64)
        places.append((at - at.min(0)) / np.ptp(at, 0))
    assert len(kinds) == svg.count("<use ")
    assert {"original", "top-1, points over B"} <= {*texts}
    return texts, kinds, np.concatenate(places)


def test_the_plot_is_what_its_sources_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = plot.PLOT.read_text(encoding="utf-8")
    monkeypatch.setattr(plot, "PLOT", tmp_path / "tweaks.svg")
    (*stated, places), (*found, at) = marks(drawn), marks(plot.draw().read_text(encoding="utf-8"))
    assert stated == found and at == pytest.approx(places, abs=1e-5), "run `python -m benchmarks.tweaks`"
    assert f"at {read(plot.LADDER, LadderStudy).baseline['size']} pixels" in drawn
