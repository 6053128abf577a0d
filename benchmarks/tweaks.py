"""Draws the published gains of the tweaks B, C and D: `python -m benchmarks.tweaks`."""

from __future__ import annotations

import io
from pathlib import Path

from trickzoo.studies.tweaks import LETTERS, series

FOLDER = Path(__file__).parent / "results" / "tweaks"
PLOT = FOLDER / "tweaks.svg"


def draw() -> Path:
    """Draw the gain of each tweak over the B network, and return the path of the plot."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    colours = {"the paper": "#2457a6", "OpenMMLab": "#18794a", "GluonCV": "#b3321f"}
    with mpl.rc_context({"svg.hashsalt": "tweaks", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        axes = figure.subplots()
        for each in series(FOLDER / "paper.json"):
            letters = [letter for letter in LETTERS if letter in each.top1]
            gains = [each.top1[letter] - each.top1["b"] for letter in letters]
            width = {50: 1.8, 101: 1.2, 152: 0.7}[each.depth]
            label = f"{each.who}, ResNet-{each.depth}"
            axes.plot([LETTERS.index(letter) for letter in letters], gains, "o-", color=colours[each.who], lw=width, ms=3, label=label)
        axes.set_xticks(range(4), ["original", "B", "C", "D"])
        axes.set_ylabel("top-1, points over B")
        axes.axhline(0, color="#1d2129", linewidth=0.6)
        axes.legend(frameon=False, fontsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#d9dde3", linewidth=0.6)
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    PLOT.write_bytes(b"\n".join(line.rstrip() for line in content.getvalue().splitlines()) + b"\n")
    return PLOT


if __name__ == "__main__":
    draw()
