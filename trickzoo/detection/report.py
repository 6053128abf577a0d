"""The sections of a report on a detector: precision and recall, and every class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trickzoo.detection.metrics import DetectionEvaluation, precision_recall
from trickzoo.evidence import count
from trickzoo.pages import figures
from trickzoo.pages.blocks import Drawing, Table, number, section
from trickzoo.pages.page import Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LISTED = 20
"""How many images a table lists."""
NAMED = 10
"""How many classes the figure names."""


def findings(found: DetectionEvaluation, summary: dict[str, Any]) -> list[str]:
    """Return the most important results as sentences. `summary` is that of the evaluation."""
    data = found.data
    objects = int(data.objects.plain.sum())
    sentences = [
        f"AP50 is {number(summary['voc']['AP50 all-point'])} % (VOC, all points), and COCO's AP over overlaps from 0.5 to 0.95 is "
        f"{number(summary['coco']['AP'])} %, on {count(len(found.found), 'image')} with {count(objects, 'object')}."
    ]
    sizes = {name: summary["coco"][f"AP {name}"] for name in ("small", "medium", "large")}
    by_size = ", ".join(f"{value:.2f} % ({name})" for name, value in sizes.items() if value is not None)
    sentences.append(f"By the size of the object, AP is {by_size}.")
    rated = [(each["VOC AP50 all-point"], name) for name, each in summary["per_class"].items() if each["VOC AP50 all-point"] is not None]
    worst, best = (min(rated), max(rated)) if rated else ((0.0, ""), (0.0, ""))
    if worst[0] < best[0]:
        sentences.append(f"The best class is {best[1]} (AP50 {best[0]:.1f} %), the worst {worst[1]} ({worst[0]:.1f} %).")
    return sentences


def sections(found: DetectionEvaluation, summary: dict[str, Any]) -> list[Section]:
    """Return the sections of the report, in their order on the page."""
    return [_curves(found), _classes(found, summary), _images(found)]


def _curves(found: DetectionEvaluation) -> Section:
    curves = precision_recall(found.data, found.found)
    most = sorted(curves, key=lambda label: -len(curves[label][0]))[:NAMED]

    def draw(narrow: bool) -> Figure:
        with figures.style():
            from matplotlib.figure import Figure

            figure = Figure(figsize=(4.3, 4.4) if narrow else (7.2, 4.0), layout="constrained")
            axes = figure.subplots()
            for label, (recall, precision) in curves.items():
                named = label in most
                colour = f"C{most.index(label)}" if named else figures.FAINT
                name = found.data.classes[label - 1] if named else None
                axes.plot(100 * recall, 100 * precision, color=colour, linewidth=1.4 if named else 0.7, label=name)
            axes.set(xlabel="recall, %", ylabel="precision, %", xlim=(0, 101), ylim=(0, 101))
            axes.grid()
            if most:
                axes.legend(fontsize=8, frameon=False, loc="lower left")
            return figure

    caption = f"At an overlap of 0.5, a curve for each class; the {NAMED} classes with the most detections have names."
    return section("curves-pr", "Precision and recall", Drawing(figures.both(draw, "pr", "Precision over recall of each class."), caption))


def _classes(found: DetectionEvaluation, summary: dict[str, Any]) -> Section:
    data = found.data
    counts = np.bincount(data.objects.labels[data.objects.plain], minlength=len(data.classes) + 1)[1:]
    figures_of = ("VOC AP50 all-point", "VOC AP50 11-point", "COCO AP")
    rows = [
        (name, f"{counts[i]:,}", *(number(summary["per_class"][name][column]) for column in figures_of))
        for i, name in enumerate(data.classes)
    ]
    return section("classes", "Every class", Table(("class", "objects", *figures_of), rows, "In percent."))


def _images(found: DetectionEvaluation) -> Section:
    """Return the section on the images whose numbers of sure boxes and of objects differ most."""
    data = found.data
    differences = [
        (abs(sure - wanted), index, sure, wanted)
        for index, detections in found.found.items()
        for sure, wanted in [(int((detections.scores >= 0.5).sum()), int(data.objects_of(index).plain.sum()))]
    ]
    rows = [
        (data.name(index), wanted, sure) for _, index, sure, wanted in sorted(differences, key=lambda each: (-each[0], each[1]))[:LISTED]
    ]
    caption = "The images whose number of boxes with a score of 0.5 or more differs most from the number of annotated objects."
    return section("images", "Images to look at", Table(("image", "annotated", "found"), rows, caption))
