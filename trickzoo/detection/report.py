"""The sections of a report on a detector: precision and recall, and every class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trickzoo import drawing
from trickzoo.detection import resampling
from trickzoo.detection.metrics import DetectionEvaluation
from trickzoo.evidence import count
from trickzoo.pages import figures
from trickzoo.pages.blocks import Drawing, Pictures, Table, number, section, thumbnail
from trickzoo.pages.page import Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LISTED = 20
"""How many images a table lists."""
BANDED = 4
"""Up to how many classes each have a name and a band in the figure; otherwise their mean has."""
DRAWS = 200
"""How many bootstrap draws a band is made from."""


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


def sections(found: DetectionEvaluation, summary: dict[str, Any], pictures: int = 0) -> list[Section]:
    """Return the sections of the report, in their order on the page, with this many pictures of images."""
    return [_curves(found), _classes(found, summary), _images(found, pictures)]


def _curves(found: DetectionEvaluation) -> Section:
    """Return the section of the precision at each recall, with 95 % bootstrap bands over the images."""
    curves = resampling.curves(resampling.match(found.data, found.found), DRAWS)
    names = [found.data.classes[place] for place in curves.classes]
    banded = len(names) <= BANDED
    percent = 100 * resampling.RECALLS

    def draw(narrow: bool) -> Figure:
        with figures.style():
            from matplotlib.figure import Figure

            figure = Figure(figsize=(4.3, 4.4) if narrow else (7.2, 4.0), layout="constrained")
            axes = figure.subplots()
            lower, upper = curves.of_each
            for place, name in enumerate(names):
                colour = f"C{place}" if banded else figures.FAINT
                axes.plot(percent, 100 * curves.each[place], color=colour, linewidth=1.4 if banded else 0.7, label=name if banded else None)
                if banded:
                    axes.fill_between(percent, 100 * lower[place], 100 * upper[place], color=colour, alpha=0.18, linewidth=0)
            if not banded:
                low, high = curves.of_mean
                axes.fill_between(percent, 100 * low, 100 * high, color=figures.ACCENT, alpha=0.25, linewidth=0)
                axes.plot(percent, 100 * curves.mean, color=figures.ACCENT, linewidth=2, label="mean of the classes")
            axes.set(xlabel="recall, %", ylabel="precision, %", xlim=(0, 101), ylim=(0, 101))
            axes.grid()
            if names:
                axes.legend(fontsize=8, frameon=False, loc="lower left")
            return figure

    lines = "Each line is a class." if banded else "The thin lines are the classes."
    caption = (
        f"The best precision at each recall or a higher one, at an overlap of 0.5, as COCO's AP50 averages it. {lines} "
        f"Bands are 95 % intervals from {DRAWS} bootstrap draws of the images."
    )
    return section("curves-pr", "Precision and recall", Drawing(figures.both(draw, "pr", "Precision over recall."), caption))


def _classes(found: DetectionEvaluation, summary: dict[str, Any]) -> Section:
    data = found.data
    counts = np.bincount(data.objects.labels[data.objects.plain], minlength=len(data.classes) + 1)[1:]
    figures_of = ("VOC AP50 all-point", "VOC AP50 11-point", "COCO AP")
    rows = [
        (name, f"{counts[i]:,}", *(number(summary["per_class"][name][column]) for column in figures_of))
        for i, name in enumerate(data.classes)
    ]
    return section("classes", "Every class", Table(("class", "objects", *figures_of), rows, "In percent."))


def _images(found: DetectionEvaluation, pictures: int) -> Section:
    """Return the section on the images whose numbers of sure boxes and of objects differ most."""
    data = found.data
    differences = [
        (abs(sure - wanted), index, sure, wanted)
        for index, detections in found.found.items()
        for sure, wanted in [(int((detections.scores >= 0.5).sum()), int(data.objects_of(index).plain.sum()))]
    ]
    order = sorted(differences, key=lambda each: (-each[0], each[1]))[:LISTED]
    rows = [(data.name(index), wanted, sure) for _, index, sure, wanted in order]
    views = [(f"{data.name(index)}: {wanted} annotated, {sure} found", _found(found, index)) for _, index, sure, wanted in order[:pictures]]
    caption = "The images whose number of boxes with a score of 0.5 or more differs most from the number of annotated objects."
    return section("images", "Images to look at", Table(("image", "annotated", "found"), rows, caption), *Pictures.of(views))


def _found(found: DetectionEvaluation, index: int) -> str:
    """Return the address of a picture of an image with the boxes that were found with a score of 0.5 or more."""
    data, (boxes, scores, labels) = found.data, found.found[index]
    image = data.read(index)
    sure = scores >= 0.5
    scale = image.width / data.images[index].width, image.height / data.images[index].height
    return thumbnail(drawing.draw_boxes(image, boxes[sure] * np.array([*scale, *scale]), labels[sure], data.classes, scores[sure]), 320)
