"""Plots of a study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from trickzoo.pages.figures import ACCENT, FAINT, HELPED, HURT, INK, style
from trickzoo.studies import samples
from trickzoo.studies.records import LadderStudy, StudyRung, TaskStudy, TransferRung
from trickzoo.studies.samples import Sample
from trickzoo.studies.statistics import LEAST_PAIRS
from trickzoo.studies.transfer_words import measure
from trickzoo.studies.words import name, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VERDICTS = {samples.HELPED: HELPED, samples.HURT: HURT}


def ladder(study: LadderStudy, *, narrow: bool = False) -> Figure:
    """Return the plot of a ladder study: for each rung its accuracy, and its paired difference from the rung that it is compared with."""
    return compared(study.rungs, study.majority, "paired difference, points" if narrow else BELOW, narrow=narrow)


def compared(rungs: Sequence[StudyRung], majority: float | None, against: str, *, narrow: bool = False) -> Figure:
    """Return the plot of training runs' accuracies and paired differences. `against` says in the title what these are differences from."""
    rungs = [rung for rung in rungs if rung.top1]
    with style():
        from matplotlib.figure import Figure

        height = 0.34 * len(rungs) + 0.9
        figure = Figure(figsize=(4.3, 2 * height) if narrow else (9.6, height), layout="constrained")
        accuracy, difference = figure.subplots(*(2, 1) if narrow else (1, 2), sharey=not narrow)
        _rows(accuracy, difference, rungs, "top-1 accuracy, %", against)
        if majority is not None and accuracy.get_xlim()[0] <= majority:
            accuracy.axvline(majority, color=INK, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
        return figure


BELOW = "paired difference from the rung it builds on, points"


def _rows(level: Axes, difference: Axes, rungs: Sequence[StudyRung], what: str, against: str) -> None:
    """Draw a row for each rung, with its figure in one panel and its paired difference in the other."""
    for row, rung in enumerate(rungs):
        if rung.metric_of_study:
            _row(level, row, rung.metric_of_study, ACCENT)
        if rung.difference:
            _row(difference, row, rung.difference, VERDICTS.get(rung.difference.verdict, FAINT))
    difference.axvline(0, color=INK, linewidth=0.9, zorder=1)
    level.set_title(what)
    low, high = level.get_xlim()
    level.set_xlim(max(low, 0), min(high, 100))
    difference.set_title(against)
    for axes in (level, difference):
        axes.set_yticks(range(len(rungs)), [_label(rung) for rung in rungs])
        axes.set_ylim(len(rungs) - 0.5, -0.5)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)


def _label(rung: StudyRung) -> str:
    return title(rung).replace(" with ", "\nwith ")


def _row(axes: Axes, row: int, sample: Sample, colour: str) -> None:
    """Draw every seed as a ring, the mean as a dot, and the 95 % confidence interval as a bar."""
    if sample.interval:
        axes.plot(sample.interval, [row, row], color=colour, linewidth=2.2, solid_capstyle="butt", zorder=2)
    axes.plot(sample.values, [row] * sample.n, "o", markersize=6.5, markerfacecolor="none", color=FAINT, markeredgewidth=0.9, zorder=3)
    axes.plot(sample.mean, row, "o", markersize=5.5, color=colour, zorder=4)


def curves(study: LadderStudy, *, narrow: bool = False) -> Figure:
    """Return validation top-1 over the epochs: a panel for each rung, with its seeds in front of those of the rung it is compared with."""
    rungs = [rung for rung in study.rungs if any(rung.curves)]
    drawn = {rung.rung: [curve for curve in rung.curves if curve] for rung in rungs}
    with style():
        from matplotlib.figure import Figure

        columns = min(len(rungs), 2 if narrow else 4)
        rows = -(-len(rungs) // columns)
        width = 4.3 if narrow else 9.6 * max(columns, 2) / 4
        figure = Figure(figsize=(width, (1.55 if narrow else 1.9) * rows + 0.3), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, rung in zip(panels, rungs, strict=False):
            for curve in drawn.get(rung.base or "", []):
                axes.plot(*zip(*curve, strict=True), color=FAINT, linewidth=0.9, alpha=0.6)
            for curve in drawn[rung.rung]:
                axes.plot(*zip(*curve, strict=True), color=ACCENT, linewidth=1.2, marker="o" if len(curve) == 1 else None, markersize=3)
            axes.set_title(_label(rung), fontsize=8.5 if narrow else 9.5)
            axes.xaxis.get_major_locator().set_params(integer=True, nbins=5)
            axes.grid()
        for axes in panels[len(rungs) :]:
            axes.set_visible(False)
        for axes in panels[max(len(rungs) - columns, 0) : len(rungs)]:  # the lowest visible panel of each column
            axes.tick_params(labelbottom=True)
        figure.supxlabel("epoch", fontsize=9, color=INK)
        figure.supylabel("top-1, %", fontsize=9, color=INK)
        return figure


def is_scatter(tasks: Sequence[TaskStudy]) -> bool:
    """Return whether `transfer` draws a scatter plot, which needs as many rungs as a rank correlation."""
    return all(len(_measured(task)) >= LEAST_PAIRS for task in tasks)


def transfer(tasks: Sequence[TaskStudy], *, narrow: bool = False) -> Figure:
    """Return a panel per task with its figure over top-1 accuracy, or rows of figures and differences if there are too few rungs."""
    with style():
        return _scatter(tasks, narrow) if is_scatter(tasks) else _transfer_rows(tasks, narrow)


def _transfer_rows(tasks: Sequence[TaskStudy], narrow: bool) -> Figure:
    from matplotlib.figure import Figure

    height = 0.34 * max(len(_measured(task)) for task in tasks) + 0.9
    rows, columns = (2 * len(tasks), 1) if narrow else (len(tasks), 2)
    figure = Figure(figsize=(4.3 if narrow else 9.6, height * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for number, task in enumerate(tasks):
        what = f"{task.task}: {measure(task.measure)}, %" if len(tasks) > 1 else f"{measure(task.measure)}, %"
        against = "paired difference, points" if narrow else "paired difference from the first rung, points"
        _rows(panels[2 * number], panels[2 * number + 1], _measured(task), what, against)
    return figure


def _scatter(tasks: Sequence[TaskStudy], narrow: bool) -> Figure:
    """Return a scatter plot with a named dot for each rung and the 95 % confidence intervals of both figures."""
    from matplotlib.figure import Figure

    width, height = (4.3, 4.0 * len(tasks)) if narrow else (9.6 if len(tasks) == 1 else 12.0, 4.6)
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(*((len(tasks), 1) if narrow else (1, len(tasks))), squeeze=False).ravel()
    for axes, task in zip(panels, tasks, strict=True):
        for rung in _measured(task):
            colour = VERDICTS.get(rung.difference.verdict, FAINT) if rung.difference else INK
            for ends in _cross(rung):
                axes.plot(*zip(*ends, strict=True), color=colour, linewidth=1.1, alpha=0.35, solid_capstyle="butt", zorder=2)
            axes.plot(*_centre(rung), "o", markersize=6, color=colour, zorder=4)
        if len(tasks) > 1:
            axes.set_title(task.task)
        axes.set_xlabel("top-1 accuracy, %")
        axes.set_ylabel(f"{measure(task.measure)}, %")
        axes.grid()
    figure.draw_without_rendering()  # fix the layout before names are placed beside the dots
    figure.set_layout_engine("none")
    for axes, task in zip(panels, tasks, strict=True):
        _name_dots(axes, _measured(task))
    return figure


def _measured(task: TaskStudy) -> list[TransferRung]:
    return [rung for rung in task.rungs if rung.figure and rung.top1]


def _centre(rung: TransferRung) -> tuple[float, float]:
    assert rung.top1 and rung.figure
    return rung.top1.mean, rung.figure.mean


def _cross(rung: TransferRung) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """Yield the two ends of each interval through a rung's dot."""
    assert rung.top1 and rung.figure
    x, y = _centre(rung)
    if rung.top1.interval:
        yield (rung.top1.interval[0], y), (rung.top1.interval[1], y)
    if rung.figure.interval:
        yield (x, rung.figure.interval[0]), (x, rung.figure.interval[1])


def _name_dots(axes: Axes, rungs: Sequence[TransferRung]) -> None:
    """Write the name of each rung beside its dot without overlapping other names and dots; a line joins distant names to their dots."""
    from adjustText import adjust_text

    texts = [axes.text(*_centre(rung), name(rung), fontsize=8.5) for rung in rungs]
    adjust_text(
        texts,
        *zip(*map(_centre, rungs), strict=True),
        objects=[line for line in axes.lines if line.get_marker() == "o"],
        ax=axes,
        expand=(1.1, 1.3),
        iter_lim=500,  # instead of a time limit, so that the result is reproducible
        arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.7},
    )
