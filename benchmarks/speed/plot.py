"""Draws the ratios of all result files."""

from __future__ import annotations

import io
import json
from pathlib import Path

from benchmarks.speed.harness import RESULTS

PLOT = RESULTS / "speed.svg"


def draw() -> Path:
    """Draw the median and the range of each ratio in the result files, and return the path of the plot."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = []
    for file in sorted(RESULTS.glob("*.json")):
        for comparison in json.loads(file.read_text(encoding="utf-8"))["comparisons"]:
            ours = list(dict.fromkeys(ratio["variant"] for ratio in comparison["ratios"]))
            for ratio in comparison["ratios"]:
                if len(ours) > 2 and ratio["variant"] != ours[0]:
                    continue
                part = file.stem.replace("_gpu", " on a GPU")
                rows.append((f"{part}: {comparison['what']}, {ratio['variant']} against {ratio['peer']}", ratio))
    with mpl.rc_context({"svg.hashsalt": "speed", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(12.8, 0.24 * len(rows) + 0.8), layout="constrained")
        axes = figure.subplots()
        for y, (_, ratio) in enumerate(rows):
            colour = "#18794a" if ratio["range"][0] > 1 else "#b3321f" if ratio["range"][1] < 1 else "#6a7280"
            axes.plot(ratio["range"], [y, y], color=colour, linewidth=1.2)
            axes.plot(ratio["median"], y, "o", color=colour, markersize=4)
        axes.axvline(1, color="#1d2129", linewidth=0.9)
        axes.set_xscale("log")
        ticks = [tick for tick in (0.25, 0.5, 1, 2, 5, 10, 20, 50) if tick < 1.2 * max(ratio["range"][1] for _, ratio in rows)]
        axes.set_xticks(ticks, [f"{tick:g} ×" for tick in ticks])
        axes.minorticks_off()
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.invert_yaxis()
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(axis="x", color="#d9dde3", linewidth=0.6)
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    PLOT.write_bytes(b"\n".join(line.rstrip() for line in content.getvalue().splitlines()) + b"\n")
    return PLOT
