"""Plots of a study: as files, and as SVG for a page whose colours they take on."""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trickzoo.studies.ladder_summary import name, title
from trickzoo.studies.transfer_summary import measure

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
        low, high = accuracy.get_xlim()
        accuracy.set_xlim(max(low, 0), min(high, 100))  # the interval of two seeds may go beyond
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


def transfer(tasks: Sequence[dict[str, Any]], *, narrow: bool = False) -> Figure:
    """A panel for each task: its figure over top-1 accuracy, a named dot for each rung, and the 95 % intervals of both."""
    with _style():
        from matplotlib.figure import Figure

        width, height = (4.3, 4.0 * len(tasks)) if narrow else (9.6 if len(tasks) == 1 else 12.0, 4.6)
        figure = Figure(figsize=(width, height), layout="constrained")
        panels = figure.subplots(*((len(tasks), 1) if narrow else (1, len(tasks))), squeeze=False).ravel()
        for axes, task in zip(panels, tasks, strict=True):
            for rung in _measured(task):
                colour = VERDICTS.get(rung["difference"]["verdict"], FAINT) if rung["difference"] else INK
                for ends in _cross(rung):
                    axes.plot(*zip(*ends, strict=True), color=colour, linewidth=1.1, alpha=0.35, solid_capstyle="butt", zorder=2)
                axes.plot(rung["top1"]["mean"], rung["figure"]["mean"], "o", markersize=6, color=colour, zorder=4)
            if len(tasks) > 1:
                axes.set_title(task["task"])
            axes.set_xlabel("top-1 accuracy, %")
            axes.set_ylabel(f"{measure(task['measure'])}, %")
            axes.grid()
        figure.draw_without_rendering()  # the layout has to be settled before names are laid beside dots
        figure.set_layout_engine("none")
        for axes, task in zip(panels, tasks, strict=True):
            _label(axes, _measured(task))
        return figure


def _measured(task: dict[str, Any]) -> list[dict[str, Any]]:
    return [rung for rung in task["rungs"] if rung["figure"]]


def _cross(rung: dict[str, Any]) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """Both ends of the intervals through a rung's dot."""
    x, y = rung["top1"], rung["figure"]
    if x["interval"]:
        yield (x["interval"][0], y["mean"]), (x["interval"][1], y["mean"])
    if y["interval"]:
        yield (x["mean"], y["interval"][0]), (x["mean"], y["interval"][1])


def _label(axes: Axes, rungs: Sequence[dict[str, Any]]) -> None:
    """The name of each rung beside its dot, where it covers the least of the other names, dots and bars; a line leads to a far one."""
    import numpy as np

    point = axes.figure.dpi / 72
    texts = [
        axes.annotate(name(rung), (rung["top1"]["mean"], rung["figure"]["mean"]), (0, 0), textcoords="offset points", fontsize=8.5)
        for rung in rungs
    ]
    spots = [(reach, angle) for reach in (9, 13, 18, 26, 38) for angle in range(0, 360, 30)]
    reaches = np.array([reach for reach, _ in spots])
    anchors = np.array([[SIDES[_side(angle)], 0.5] for _, angle in spots])
    centres = axes.transData.transform([text.xy for text in texts])
    ends = np.array([cross for rung in rungs for cross in _cross(rung)]).reshape(-1, 2)
    bars = axes.transData.transform(ends).reshape(-1, 4) + point * np.array([-1, -1, 1, 1])
    dots = np.hstack([centres - 5 * point, centres + 5 * point])
    sizes = np.array([text.get_window_extent().size for text in texts])
    offsets = point * np.array([_offset(*spot) for spot in spots])
    corners = [centre + offsets - anchors * size for centre, size in zip(centres, sizes, strict=True)]
    boxes = [np.hstack([corner, corner + size]) for corner, size in zip(corners, sizes, strict=True)]
    chosen: dict[int, int] = {}
    for _ in range(3):  # the first were laid before the others were there
        for i, box in enumerate(boxes):
            names = [boxes[j][spot] for j, spot in chosen.items() if j != i]
            outside = np.prod(sizes[i]) - _shared(box, axes.bbox.extents)
            hidden = 3 * _shared(box, np.vstack([dots, *names])) + _shared(box, bars) + 9 * outside
            chosen[i] = int(np.argmin(hidden / point**2 + reaches))
    for i, text in enumerate(texts):
        reach, angle = spots[chosen[i]]
        text.set(position=_offset(reach, angle), ha=_side(angle), va="center")
        if reach > 13:
            line = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 4}
            axes.annotate("", text.xy, text.get_position(), textcoords="offset points", arrowprops=line)


SIDES = {"left": 0.0, "center": 0.5, "right": 1.0}


def _side(angle: int) -> str:
    """Which end of a name is at its offset from the dot."""
    return "center" if angle % 180 == 90 else "left" if angle < 90 or angle > 270 else "right"


def _offset(reach: float, angle: int) -> tuple[float, float]:
    return reach * math.cos(math.radians(angle)), reach * math.sin(math.radians(angle))


def _shared(boxes: Any, others: Any) -> Any:
    """The area of each box (x0, y0, x1, y1) that the others cover."""
    here, there = boxes[:, None], others.reshape(1, -1, 4)
    sides = (here[..., 2:].clip(max=there[..., 2:]) - here[..., :2].clip(min=there[..., :2])).clip(min=0)
    return sides.prod(axis=2).sum(axis=1)


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
