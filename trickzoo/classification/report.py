"""The sections of a report on a classifier: confusions, classes, reliability, and single images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from msgspec import UnsetType

from trickzoo.classification.metrics import expected_calibration_error, reported_ranks, top_k_hits, wilson_interval
from trickzoo.classification.predictions import (
    Predictions,
    least_certain,
    most_confident_mistakes,
    most_confused,
    per_class,
    reliability,
)
from trickzoo.classification.robustness import Robustness, by_kind
from trickzoo.data.classes import describe_class
from trickzoo.data.images import decode
from trickzoo.data.imageset import ImageSet, as_known
from trickzoo.pages import figures
from trickzoo.pages.blocks import Drawing, Pictures, Table, Text, number, section, thumbnail
from trickzoo.pages.page import Section
from trickzoo.wording import count

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from numpy.typing import NDArray
    from PIL import Image

LISTED = 20
"""How many pairs of classes, and how many images, a table lists."""
DRAWN = 40
"""The largest number of classes whose confusion matrix is drawn."""
MISTAKES = "The wrong predictions with the highest confidence. Look for wrong labels here first."
UNCERTAIN = "The most uncertain predictions: the probabilities of the two most probable classes are closest."


def findings(predictions: Predictions) -> list[str]:
    """Return the most important results as sentences."""
    sentences = [_accuracy(predictions, k) for k in reported_ranks(len(predictions.classes))]
    largest = int(np.bincount(predictions.labels).argmax())
    share = 100 * float((predictions.labels == largest).mean())
    sentences.append(f"Always answering {describe_class(predictions.classes[largest])}, the largest class, would give {share:.1f} %.")
    if pairs := most_confused(predictions.confusion(), 1):
        ((true, predicted, errors),) = pairs
        of = int((predictions.labels == true).sum())
        sentences.append(
            f"The most frequent error: {describe_class(predictions.classes[true])} is predicted as "
            f"{describe_class(predictions.classes[predicted])}, {errors:,} of {count(of, 'image')}."
        )
    mean = 100 * float(predictions.confidence[:, 0].mean())
    sentences.append(f"The mean confidence is {mean:.1f} %, and the accuracy {100 * float(predictions.right.mean()):.1f} %.")
    return sentences


def _accuracy(predictions: Predictions, k: int) -> str:
    n, hits = len(predictions.labels), top_k_hits(predictions.top, predictions.labels, k)
    low, high = wilson_interval(hits, n)
    return f"Top-{k} is {100 * hits / n:.2f} % of {count(n, 'image')} (95 % CI {100 * low:.2f} to {100 * high:.2f})."


def sections(predictions: Predictions) -> list[Section]:
    """Return the sections of the report, in their order on the page."""
    names = [describe_class(name) for name in predictions.classes]
    return [_confusion(predictions, names), _classes(predictions, names), _reliability(predictions), _images(predictions, names)]


def pictures(predictions: Predictions, image: Callable[[int], Image.Image], most: int) -> list[Section]:
    """Return the section with up to `most` pictures of the most confident mistakes, and as many of the least certain images.

    `image` returns the image of a prediction by its index.
    """
    names = [describe_class(name) for name in predictions.classes]
    views = []
    for i in dict.fromkeys([*most_confident_mistakes(predictions, most), *least_certain(predictions, most)]):
        sure = f"{100 * predictions.confidence[i, 0]:.1f} %"
        caption = f"{predictions.name(i)}: {names[predictions.labels[i]]}, predicted {names[predictions.top[i, 0]]} ({sure})"
        views.append((caption, thumbnail(image(i))))
    return [section("pictures", "Pictures of these images", *Pictures.of(views))] if views else []


def image_of(predictions: Predictions, images: ImageSet) -> Callable[[int], Image.Image]:
    """Return a function from the index of a prediction to its image in the set, for `pictures`.

    `predictions` has the names of the images in the set. The function raises BadData if an image cannot be read any more.
    """
    images = as_known(images, predictions.classes)
    place = {name: index for index, name in enumerate(images.names)}

    def read(i: int) -> Image.Image:
        index = place[predictions.name(i)]
        picture = decode(images.content(index), images.place(images.entries[index]))
        return (picture.upright() if images.upright else picture).image

    return read


def corrupted(found: Robustness | UnsetType) -> list[Section]:
    """Return the section on corrupted images, if the model was run on some."""
    if isinstance(found, UnsetType):
        return []
    columns, rows = by_kind(found)
    among = "" if isinstance(found.restricted_top1, UnsetType) else " among the classes of this set"
    notes = [f"{kind} is left out: it {reason}." for kind, reason in found.left_out.items()]
    caption = f"Top-1 in percent{among}, by the severity of the corruption (arXiv 1903.12261)."
    return [section("corruptions", "Corrupted images", Table(columns, rows, caption), Text(notes))]


def _confusion(predictions: Predictions, names: list[str]) -> Section:
    confusion = predictions.confusion()
    rows = [
        (names[true], names[predicted], f"{errors:,}", f"{100 * errors / confusion[true].sum():.1f}")
        for true, predicted, errors in most_confused(confusion, LISTED)
    ]
    table = Table(("true class", "predicted", "images", "% of class"), rows, "The most frequent errors.", left=2)
    blocks: list[Table | Drawing | Text] = [table] if rows else [Text(["Every image is classified correctly."])]
    if len(names) <= DRAWN:
        description = "Confusion matrix. The tables on this page have the same figures."
        drawn = figures.both(lambda narrow: _matrix(confusion, names, narrow), "confusion", description)
        caption = "Rows are true classes, columns predicted ones. A cell is the percentage of its row."
        blocks.insert(0, Drawing(drawn, caption))
    return section("confusion", "Confused classes", *blocks)


def _matrix(confusion: NDArray[np.int64], names: list[str], narrow: bool) -> Figure:
    with figures.style():
        from matplotlib.figure import Figure

        side = (3.2 if narrow else 4.4) + 0.09 * len(names)
        figure = Figure(figsize=(side + (0.6 if narrow else 1.2), side), layout="constrained")
        axes = figure.subplots()
        shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
        rows, columns = np.nonzero(shares)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            share = float(shares[row, column])
            colour = figures.ACCENT if row == column else figures.HURT
            axes.add_patch(_cell(column, row, colour, 0.05 + 0.85 * share))
            if len(names) <= 12:
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7)
        short = [name if len(name) <= 14 else f"{name[:13]}…" for name in names]
        axes.set_xticks(range(len(names)), short, rotation=90, fontsize=8 if len(names) <= 20 else 6)
        axes.set_yticks(range(len(names)), short, fontsize=8 if len(names) <= 20 else 6)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_aspect("equal")
        return figure


def _cell(column: int, row: int, colour: str, alpha: float) -> Patch:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, alpha=alpha, linewidth=0)


def _classes(predictions: Predictions, names: list[str]) -> Section:
    found = per_class(predictions.confusion())
    order = np.argsort(np.nan_to_num(found.f1, nan=2), kind="stable")
    columns = (found.precision, found.recall, found.f1)
    rows = [(names[i], f"{found.n[i]:,}", *(_percent(column[i]) for column in columns)) for i in order if found.n[i] or found.f1[i] == 0]
    caption = "In percent, the class with the lowest F1 first. n is the number of images of the class."
    macro = float(np.nanmean(found.f1)), float(np.nanmean(found.recall))
    means = f"The mean F1 over the classes is {100 * macro[0]:.2f} %, and the mean recall (balanced accuracy) {100 * macro[1]:.2f} %."
    return section("classes", "Every class", Text([means]), Table(("class", "n", "precision", "recall", "F1"), rows, caption))


def _percent(value: float) -> str:
    return number(None if np.isnan(value) else 100 * value, 1)


def _reliability(predictions: Predictions) -> Section:
    found = reliability(predictions.confidence[:, 0], predictions.right)
    ece = 100 * expected_calibration_error(predictions.confidence[:, 0], predictions.right)

    def draw(narrow: bool) -> Figure:
        with figures.style():
            from matplotlib.figure import Figure

            figure = Figure(figsize=(4.3, 3.6) if narrow else (5.4, 3.6), layout="constrained")
            axes = figure.subplots()
            axes.plot([0, 100], [0, 100], color=figures.FAINT, linewidth=0.9, linestyle=(0, (2, 2)))
            for confidence, accuracy, n in found:
                low, high = wilson_interval(round(accuracy * n), n)
                axes.plot([100 * confidence] * 2, [100 * low, 100 * high], color=figures.ACCENT, linewidth=1.4, alpha=0.5)
            axes.plot(*zip(*((100 * c, 100 * a) for c, a, _ in found), strict=True), "o-", color=figures.ACCENT, markersize=4)
            axes.set_xlabel("confidence, %")
            axes.set_ylabel("right, %")
            axes.grid()
            return figure

    svgs = figures.both(draw, "reliability", "Share of right images over the confidence of the network.")
    caption = (
        "Accuracy of the images in each bin of confidence, with its 95 % interval. On the dotted line, accuracy and confidence are equal."
    )
    ece_in_words = Text([f"The expected calibration error is {ece:.2f} %."])
    return section("reliability", "Calibration: confidence and accuracy", ece_in_words, Drawing(svgs, caption))


def _images(predictions: Predictions, names: list[str]) -> Section:
    def rows(indices: list[int]) -> list[tuple[str, ...]]:
        true, predicted, sure = predictions.labels, predictions.top[:, 0], 100 * predictions.confidence[:, 0]
        return [(predictions.name(i), names[true[i]], names[predicted[i]], f"{sure[i]:.1f}") for i in indices]

    columns = ("image", "true class", "predicted", "confidence, %")
    wrong = rows(most_confident_mistakes(predictions, LISTED))
    mistakes = [Table(columns, wrong, MISTAKES, left=3)] if wrong else []
    uncertain = Table(columns, rows(least_certain(predictions, LISTED)), UNCERTAIN, left=3)
    return section("images", "Images to look at", *mistakes, uncertain)
