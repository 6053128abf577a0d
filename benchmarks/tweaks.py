"""Draws the published gains of the tweaks B, C and D: `python -m benchmarks.tweaks`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from trickzoo.studies.found import LadderStudy
from trickzoo.studies.results import read
from trickzoo.studies.statistics import estimate
from trickzoo.studies.tweaks import LETTERS, over_b, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER = Path(__file__).parent / "results" / "tweaks"
PLOT = FOLDER / "tweaks.svg"
LADDER = FOLDER.parent / "ladder_imagenette128_resnet18_d_30_epochs" / "ladder.json"


def draw() -> Path:
    """Draw the gain of each tweak over the B network, and return the path of the plot."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "tweaks", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(8.4, 3.4), layout="constrained")
        published, own = figure.subplots(1, 2, width_ratios=(5, 3))
        _draw_published(published)
        _draw_ladder(own)
        for axes in (published, own):
            axes.set_ylabel("top-1, points over B")
            axes.axhline(0, color="#1d2129", linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="#d9dde3", linewidth=0.6)
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    PLOT.write_bytes(b"\n".join(line.rstrip() for line in content.getvalue().splitlines()) + b"\n")
    return PLOT


def _draw_published(axes: Axes) -> None:
    colours = {"the paper": "#2457a6", "OpenMMLab": "#18794a", "GluonCV": "#b3321f"}
    for each in series(FOLDER / "paper.json"):
        letters = [letter for letter in LETTERS if letter in each.top1]
        gains = [each.top1[letter] - each.top1["b"] for letter in letters]
        width = {50: 1.8, 101: 1.2, 152: 0.7}[each.depth]
        label = f"{each.who}, ResNet-{each.depth}"
        axes.plot([LETTERS.index(letter) for letter in letters], gains, "o-", color=colours[each.who], lw=width, ms=3, label=label)
    axes.set_xticks(range(4), ["original", "B", "C", "D"])
    axes.legend(frameon=False, fontsize=7)
    axes.set_title("ImageNet-1k", loc="left", fontsize=8)


def _draw_ladder(axes: Axes) -> None:
    study = read(LADDER, LadderStudy)
    found = [estimate(gains) for gains in over_b(study).values()]
    for place, each in enumerate(found, 1):
        assert each.interval is not None
        axes.plot([place] * 2, each.interval, color="#6b4ba1", lw=5, alpha=0.3, solid_capstyle="butt")
    axes.plot([0, 1, 2], [0, *(each.mean for each in found)], "o-", color="#6b4ba1", lw=1.8, ms=3)
    axes.set_xticks(range(3), ["B (plain)", "C", "D"])
    axes.set_title("our ladder: ResNet-18, ten classes at 128 pixels,\nmean of five seeds with its 95 % interval", loc="left", fontsize=8)


if __name__ == "__main__":
    draw()
