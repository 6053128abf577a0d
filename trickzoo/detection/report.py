"""The sections of a report on a detector: precision and recall, every class, and single images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trickzoo import drawing
from trickzoo.detection import resampling
from trickzoo.detection.metrics import DetectionEvaluation
from trickzoo.pages import figures
from trickzoo.pages.blocks import Drawing, Pictures, Table, number, section, thumbnail
from trickzoo.pages.page import Section
from trickzoo.wording import count

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

LISTED = 20
"""How many images a table lists."""
SURE = 0.5
"""The score from which on a box counts as found."""
UNDECIDED = (0.25, 0.75)
"""The scores of the boxes that pictures of the least certain images show."""
UNCERTAIN = (
    "The most uncertain images: a box with a score of 0.5 adds 1 to the uncertainty, one of 0.25 or 0.75 adds 0.25, and one of 0 or 1 adds "
    "nothing (arXiv 1809.09875)."
)
BANDED = 4
"""Up to how many classes each have a name and a band in the figure; otherwise their mean has."""
DRAWS = 200
"""How many bootstrap draws a band is made from."""


def findings(found: DetectionEvaluation, summary: dict[str, Any]) -> list[str]:
    """Return the most important results as sentences. `summary` is that of the evaluation."""
    data = found.data
    objects = int(data.objects.plain.sum())
    sentences = [
        f"AP50 is {number(summary['voc']['AP50 all-point'])} % (VOC, all points), and COCO's AP (IoU from 0.5 to 0.95) is "
        f"{number(summary['coco']['AP'])} %, on {count(len(found.found), 'image')} with {count(objects, 'object')}."
    ]
    sizes = {name: summary["coco"][f"AP {name}"] for name in ("small", "medium", "large")}
    by_size = ", ".join(f"{value:.2f} % ({name})" for name, value in sizes.items() if value is not None)
    sentences += [f"By the size of the object, AP is {by_size}."] * bool(by_size)
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
        f"The best precision at each recall or a higher one, at an IoU of 0.5, as COCO's AP50 averages it. {lines} "
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
    """Return the section on the images whose numbers of sure boxes and of objects differ most, and on the least certain images."""
    data = found.data
    sure = {index: int((detections.scores >= SURE).sum()) for index, detections in found.found.items()}
    annotated = {index: int(data.objects_of(index).plain.sum()) for index in sure}
    uncertainties = {index: uncertainty(detections.scores) for index, detections in found.found.items()}
    miscounted = sorted(sure, key=lambda index: (-abs(sure[index] - annotated[index]), index))[:LISTED]
    uncertain = sorted(sure, key=lambda index: (-uncertainties[index], index))[:LISTED]
    rows = [(data.name(index), annotated[index], sure[index]) for index in miscounted]
    uncertain_rows = [(data.name(index), number(uncertainties[index]), sure[index]) for index in uncertain]
    views = [
        (f"{data.name(index)}: {annotated[index]} annotated, {sure[index]} found", _found(found, index, SURE, np.inf))
        for index in miscounted[:pictures]
    ]
    views += [
        (f"{data.name(index)}: boxes with scores from {UNDECIDED[0]} to {UNDECIDED[1]}", _found(found, index, *UNDECIDED))
        for index in uncertain[:pictures]
    ]
    caption = "The images whose number of boxes with a score of 0.5 or more differs most from the number of annotated objects."
    return section(
        "images",
        "Images to look at",
        Table(("image", "annotated", "found"), rows, caption),
        Table(("image", "uncertainty", "found"), uncertain_rows, UNCERTAIN),
        *Pictures.of(views),
    )


def uncertainty(scores: NDArray[np.float64]) -> float:
    """Return how uncertain the boxes of an image are: the sum of (1 - |2s - 1|)² over their (m,) scores s in 0…1.

    It is the sum of the margins of Brust, Käding and Denzler (arXiv 1809.09875), with a box and no box as the two classes.
    """
    return float(((1 - abs(2 * scores - 1)) ** 2).sum())


def _found(found: DetectionEvaluation, index: int, low: float, high: float) -> str:
    """Return the address of a picture of an image with the boxes whose score is in this range."""
    data, (boxes, scores, labels) = found.data, found.found[index]
    image = data.read(index)
    shown = (scores >= low) & (scores <= high)
    scale = image.width / data.images[index].width, image.height / data.images[index].height
    drawn = boxes[shown] * np.array([*scale, *scale])
    side = drawing.SMALL
    return thumbnail(drawing.draw_boxes(image, drawn, labels[shown], data.classes, scores[shown], side=side), side)
