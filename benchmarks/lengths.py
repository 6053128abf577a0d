"""The effect of the same steps in ladders of different length. `python -m benchmarks.lengths` draws it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from trickzoo.files import write_atomically
from trickzoo.pages.figures import INK, style, svg
from trickzoo.studies import words
from trickzoo.studies.records import LadderStudy
from trickzoo.studies.results import read
from trickzoo.studies.samples import Difference

RESULTS = Path(__file__).parent / "results"
PLOT = RESULTS / "lengths.svg"
COLOURS = ("#2457a6", "#b3321f", "#18794a", "#6b4ba1")
COLUMNS = 3
"""Panels beside each other, few enough that the title of a step fits above its own."""


def by_length(studies: Iterable[LadderStudy]) -> dict[tuple[str, str], dict[int, Difference]]:
    """Return the difference that a step makes, by the number of epochs of the ladder, for steps that several lengths measure.

    The keys are the title of the study, which names network and images, and that of the step, or the first and the last rung for all steps
    together. Only steps are taken that do not include other rungs.
    """
    found: dict[tuple[str, str], dict[int, Difference]] = {}
    for study in studies:
        measured = {words.title(rung): rung.difference for rung in study.rungs if not rung.skipped}
        rungs = {rung.rung: words.name(rung) for rung in study.rungs}
        measured[f"{rungs[study.total.first]} to {rungs[study.total.last]}"] = study.total.difference
        for step, difference in measured.items():
            if difference:
                found.setdefault((study.title, step), {})[study.baseline["epochs"]] = difference
    return {key: dict(sorted(each.items())) for key, each in found.items() if len(each) > 1}


def draw() -> str:
    """Return the plot as SVG: a panel for each step, with the difference that it makes over the epochs of the training."""
    from matplotlib.figure import Figure

    found = by_length(read(path, LadderStudy) for path in sorted(RESULTS.glob("ladder_*/ladder.json")))
    steps = list(dict.fromkeys(step for _, step in found))
    colours = dict(zip(dict.fromkeys(study for study, _ in found), COLOURS, strict=False))
    with style():
        rows = -(-len(steps) // COLUMNS)
        figure = Figure(figsize=(9.6, 0.4 + 2.2 * rows), layout="constrained")
        panels = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False).ravel()
        for axes in panels[len(steps) :]:
            axes.set_visible(False)
        for axes, step in zip(panels, steps, strict=False):
            for (study, _), differences in ((key, each) for key, each in found.items() if key[1] == step):
                epochs, means = list(differences), [each.mean for each in differences.values()]
                axes.plot(epochs, means, "o-", color=colours[study], label=study.partition(" on ")[0])
                for length, each in differences.items():
                    if each.interval:
                        axes.plot([length] * 2, each.interval, color=colours[study], linewidth=5, alpha=0.25, solid_capstyle="butt")
            axes.axhline(0, color=INK, linewidth=0.9, zorder=1)
            axes.set_title(step)
            axes.set_xscale("log", base=2)
            lengths = sorted({length for key, each in found.items() if key[1] == step for length in each})
            axes.set_xticks(lengths, lengths, minor=False)
            axes.grid(axis="y")
        figure.supylabel("top-1, points (95 % CI)", fontsize=9, color=INK)
        figure.supxlabel("epochs", fontsize=9, color=INK)
        lines = {line.get_label(): line for axes in panels for line in axes.lines if not str(line.get_label()).startswith("_")}
        figure.legend(lines.values(), lines, loc="outside right upper", frameon=False, fontsize=8)
        return svg(figure, PLOT.stem)


if __name__ == "__main__":
    write_atomically(PLOT, draw().encode())
