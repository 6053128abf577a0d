"""Draws the ratios of all result files."""

from __future__ import annotations

import io
import itertools
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.speed import TITLES
from benchmarks.speed.harness import RESULTS
from trickzoo.files import read_json

PLOT = RESULTS / "speed.svg"
TICKS = (0.25, 1, 4, 16, 64)
LONGEST = 58
"""How many characters of a title fit into a line."""


def draw() -> Path:
    """Draw the median and the range of each ratio in the result files, and return the path of the plot.

    Below the title of each comparison there is a line for each of its ratios. The plot is narrow, so that its text can be read on a phone.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.transforms import blended_transform_factory

    comparisons = list(_comparisons())
    n = sum(len(title) + len(ratios) for title, ratios in comparisons)
    with mpl.rc_context({"svg.hashsalt": "speed", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(5.2, 0.2 * n + 0.6), layout="constrained")
        axes = figure.subplots()
        labels: dict[int, str] = {}
        left = blended_transform_factory(figure.transFigure, axes.transData)
        rows = itertools.count()
        for title, ratios in comparisons:
            for line in title:
                axes.text(0.01, next(rows), line, weight="bold", va="center", transform=left).set_in_layout(False)
            for label, ratio in ratios:
                y = next(rows)
                labels[y] = label
                colour = "#18794a" if ratio["range"][0] > 1 else "#b3321f" if ratio["range"][1] < 1 else "#6a7280"
                axes.plot(ratio["range"], [y, y], color=colour, linewidth=1.4)
                axes.plot(ratio["median"], y, "o", color=colour, markersize=4)
        axes.axvline(1, color="#1d2129", linewidth=0.9)
        axes.set_xscale("log")
        largest = max(ratio["range"][1] for _, ratios in comparisons for _, ratio in ratios)
        ticks = [tick for tick in TICKS if tick < 1.2 * largest]
        axes.set_xticks(ticks, [f"{tick:g} ×" for tick in ticks])
        axes.minorticks_off()
        axes.set_yticks(list(labels), list(labels.values()))
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(n - 0.5, -0.7)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(axis="x", color="#d9dde3", linewidth=0.6)
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    PLOT.write_bytes(b"\n".join(line.rstrip() for line in content.getvalue().splitlines()) + b"\n")
    return PLOT


def _comparisons() -> Iterator[tuple[list[str], list[tuple[str, dict[str, Any]]]]]:
    """Yield the lines of the title of each comparison that has ratios, and the ratios with their labels.

    Of more than two variants only the first is drawn.
    """
    for file in sorted(RESULTS.glob("*.json")):
        for comparison in read_json(file)["comparisons"]:
            ours = list(dict.fromkeys(ratio["variant"] for ratio in comparison["ratios"]))
            shown = [ratio for ratio in comparison["ratios"] if len(ours) <= 2 or ratio["variant"] == ours[0]]
            labels = [f"{ratio['variant'].removeprefix('trickzoo, ')} against {ratio['peer']}" for ratio in shown]
            if shown:
                title = f"{TITLES.get(file.stem, file.stem)}: {comparison['what']}"
                yield textwrap.wrap(title, LONGEST), list(zip(labels, shown, strict=True))
