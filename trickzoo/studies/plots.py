"""Plots of a study: as files, and as SVG for a page whose colours they take on."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trickzoo.studies.summary import title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, GRID, ACCENT, HELPED, HURT = "#1d2129", "#6a7280", "#d9dde3", "#2457a6", "#18794a", "#b3321f"
ROLES = {INK: "--ink", FAINT: "--faint", GRID: "--line", ACCENT: "--accent", HELPED: "--helped", HURT: "--hurt"}
"""The page's variable that each colour stands for."""

VERDICTS = {"helped": HELPED, "hurt": HURT}


def ladder(content: dict[str, Any], *, narrow: bool = False) -> Figure:
    """Dots and intervals, a row for each rung: its accuracy, and its paired difference to the rung that it is compared with."""
    rungs = [rung for rung in content["rungs"] if rung["top1"]]
    with _style():
        from matplotlib.figure import Figure

        shape = (2, 1) if narrow else (1, 2)
        height = 0.34 * len(rungs) + 0.9
        figure = Figure(figsize=(4.3, 2 * height) if narrow else (9.6, height), layout="constrained")
        accuracy, difference = figure.subplots(*shape, sharey=not narrow)
        labels = [title(rung).replace(" with ", "\nwith ") for rung in rungs]
        for row, rung in enumerate(rungs):
            _row(accuracy, row, rung["top1"], ACCENT)
            if rung["difference"]:
                _row(difference, row, rung["difference"], VERDICTS.get(rung["difference"]["verdict"], FAINT))
        difference.axvline(0, color=INK, linewidth=0.9, zorder=1)
        accuracy.set_title("top-1 accuracy, %")
        difference.set_title("paired difference, points" if narrow else "paired difference to the rung below, points")
        for axes in (accuracy, difference):
            axes.set_yticks(range(len(rungs)), labels)
            axes.set_ylim(len(rungs) - 0.5, -0.5)
            axes.grid(axis="x")
            axes.tick_params(axis="y", length=0)
        return figure


def _row(axes: Axes, row: int, found: dict[str, Any], colour: str) -> None:
    """Every seed as a ring, the mean as a dot, the 95 % interval as a bar."""
    if found["interval"]:
        axes.plot(found["interval"], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt", zorder=2)
    axes.plot(found["values"], [row] * found["n"], "o", markersize=6.5, markerfacecolor="none", color=FAINT, markeredgewidth=0.9, zorder=3)
    axes.plot(found["mean"], row, "o", markersize=5.5, color=colour, zorder=4)


def curves(content: dict[str, Any], *, narrow: bool = False) -> Figure:
    """Validation top-1 over the epochs: a panel for each rung with its seeds, behind them those of the rung that it is compared with."""
    rungs = [rung for rung in content["rungs"] if any(rung["curves"])]
    by_name = {rung["rung"]: rung for rung in rungs}
    with _style():
        from matplotlib.figure import Figure

        columns = min(len(rungs), 2 if narrow else 4)
        rows = -(-len(rungs) // columns)
        width = 4.3 if narrow else 9.6 * max(columns, 2) / 4
        figure = Figure(figsize=(width, (1.55 if narrow else 1.9) * rows + 0.3), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, rung in zip(panels, rungs, strict=False):
            for curve in by_name.get(rung["base"], {"curves": []})["curves"]:
                axes.plot(*zip(*curve, strict=True), color=FAINT, linewidth=0.9, alpha=0.6)
            for curve in rung["curves"]:
                axes.plot(*zip(*curve, strict=True), color=ACCENT, linewidth=1.2, marker="o" if len(curve) == 1 else None, markersize=3)
            axes.set_title(title(rung).replace(" with ", "\nwith "), fontsize=8.5 if narrow else 9.5)
            axes.xaxis.get_major_locator().set_params(integer=True, nbins=5)
            axes.grid()
        for axes in panels[len(rungs) :]:
            axes.set_visible(False)
        figure.supxlabel("epoch", fontsize=9, color=INK)
        figure.supylabel("top-1, %", fontsize=9, color=INK)
        return figure


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib

    settings: Any = {
        "font.size": 9,
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.axisbelow": True,
        "axes.xmargin": 0.06,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "svg.fonttype": "none",
    }
    settings |= dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "ytick.labelcolor", "xtick.labelcolor"), INK)
    settings |= dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), GRID)
    with matplotlib.rc_context(settings):
        yield


def png(figure: Figure) -> bytes:
    """The figure on white."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=160)
    return image.getvalue()


def svg(figure: Figure, name: str) -> str:
    """The figure as an SVG document, the same for the same figure; its ids depend on `name`."""
    import matplotlib

    image = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(image, format="svg", metadata={"Date": None, "Creator": None})
    return image.getvalue()


def inline(figure: Figure, name: str, description: str) -> str:
    """The figure as an `<svg>` element of a page: without a background, in the page's colours and font."""
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    text = svg(figure, name)
    text = text[text.index("<svg") :]
    head, _, rest = text.partition(">")
    width, height = (float(head.partition(f'{side}="')[2].partition("pt")[0]) for side in ("width", "height"))
    for colour, role in ROLES.items():
        rest = rest.replace(colour, f"var({role})")
    rest = re.sub(r'(id="|url\(#|href="#)', rf"\1{name}-", rest)  # an id is one figure's among all on the page
    label = html.escape(description, quote=True)
    return f'<svg role="img" aria-label="{label}" viewBox="0 0 {width:g} {height:g}" style="max-width:{width * 4 / 3:.0f}px">{rest}'
