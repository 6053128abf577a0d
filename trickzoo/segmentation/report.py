"""The sections of a report on a segmenter: every class, confusions, the worst masks, and the least certain ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trickzoo import drawing
from trickzoo.data.masks import SegmentationSet
from trickzoo.pages.blocks import Pictures, Table, number, section, thumbnail
from trickzoo.pages.page import Section
from trickzoo.segmentation.metrics import ConfusionMatrix, ImageCounts, intersection_over_union
from trickzoo.wording import count

LISTED = 20
"""How many pairs of classes, and how many images, a table lists."""
WORST = "In percent, the lowest mean IoU first: the mean is over the classes that are annotated or predicted in the image."
UNCERTAIN = (
    "In percent, the smallest mean margin first: the probability of a pixel's most probable class minus that of its second one, "
    "as the mean over the image."
)


def findings(found: ConfusionMatrix, data: SegmentationSet) -> list[str]:
    """Return the most important results as sentences."""
    summary = found.summary()
    sentences = [
        f"The mean IoU is {number(summary['miou'])} % and the pixel accuracy {number(summary['pixel_accuracy'])} %, "
        f"on {count(len(data), 'image')} with {count(summary['pixels'], 'judged pixel')}."
    ]
    rated = [(value, name) for name, value in summary["per_class"].items() if value is not None]
    worst, best = (min(rated), max(rated)) if rated else ((0.0, ""), (0.0, ""))
    if worst[0] < best[0]:
        sentences.append(f"The best class is {best[1]} (IoU {best[0]:.1f} %), the worst {worst[1]} ({worst[0]:.1f} %).")
    largest = int(found.counts.sum(1).argmax())
    share = 100 * found.counts[largest].sum() / max(found.counts.sum(), 1)
    sentences.append(f"Always answering {found.classes[largest]} would give {share:.1f} % pixel accuracy.")
    return sentences


def sections(found: ConfusionMatrix, data: SegmentationSet, pictures: int = 0) -> list[Section]:
    """Return the sections of the report, in their order on the page, with this many pictures of each kind of image."""
    counts, each = found.counts, 100 * intersection_over_union(found.counts)
    true, predicted = counts.sum(1), counts.sum(0)
    rows = [
        (
            name,
            f"{true[i]:,}",
            number(None if each[i] != each[i] else each[i]),
            number(100 * counts[i, i] / true[i] if true[i] else None),
            number(100 * counts[i, i] / predicted[i] if predicted[i] else None),
        )
        for i, name in enumerate(found.classes)
    ]
    table = Table(("class", "pixels", "IoU", "recall", "precision"), rows, "In percent of the judged pixels.")
    k = len(found.classes)
    pairs = sorted(((int(counts[i, j]), i, j) for i in range(k) for j in range(k) if i != j and counts[i, j]), reverse=True)[:LISTED]
    confused = [(found.classes[i], found.classes[j], f"{n:,}", number(100 * n / true[i], 1)) for n, i, j in pairs]
    columns = ("true class", "predicted", "pixels", "% of class")
    return [
        section("classes", "Every class", table),
        section("confusion", "Confused classes", Table(columns, confused, "The most frequent errors.", left=2)),
        _images(found, data, pictures),
    ]


def _images(found: ConfusionMatrix, data: SegmentationSet, pictures: int) -> Section:
    """Return the section on the worst and the least certain images."""
    each = found.images
    worst, uncertain = worst_masks(found)[:LISTED], least_certain(found)[:LISTED]
    ious = {index: number(None if np.isnan(counts.miou) else 100 * counts.miou) for index, counts in each.items()}
    rows = [(data.name(index), ious[index], number(100 * each[index].right / each[index].judged)) for index in worst]
    uncertain_rows = [(data.name(index), number(100 * each[index].margin), ious[index]) for index in uncertain]
    shown = dict.fromkeys([*worst[:pictures], *uncertain[:pictures]])
    views = [(f"{data.name(index)}, as annotated: {_in_words(each[index])}", _annotated(data, index)) for index in shown]
    return section(
        "images",
        "Images to look at",
        Table(("image", "mean IoU", "pixel accuracy"), rows, WORST),
        Table(("image", "mean margin", "mean IoU"), uncertain_rows, UNCERTAIN),
        *Pictures.of(views),
    )


def worst_masks(found: ConfusionMatrix) -> list[int]:
    """Return the indices of the images with a judged pixel, those with the lowest mean IoU first."""
    return sorted((index for index, each in found.images.items() if each.judged), key=lambda index: (found.images[index].miou, index))


def least_certain(found: ConfusionMatrix) -> list[int]:
    """Return the indices of the images whose mean margin is known, those with the smallest first."""
    known = (index for index, each in found.images.items() if not np.isnan(each.margin))
    return sorted(known, key=lambda index: (found.images[index].margin, index))


def _in_words(counts: ImageCounts) -> str:
    known = {name: value for name, value in (("IoU", counts.miou), ("margin", counts.margin)) if not np.isnan(value)}
    return ", ".join(f"{name} {100 * value:.1f} %" for name, value in known.items())


def image_with_mask(data: SegmentationSet, index: int) -> tuple[Image.Image, NDArray[np.uint8]]:
    """Read an image and its annotated mask, for drawing: the mask is reduced to the size of the image if the image was reduced."""
    image, mask = data.read(index)
    if mask.shape != (image.height, image.width):  # the image has more than `image_memory.MAX_PIXELS`
        mask = np.asarray(Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST))
    return image, mask


def _annotated(data: SegmentationSet, index: int) -> str:
    """Return the address of a picture of an image with its annotated mask."""
    image, mask = image_with_mask(data, index)
    return thumbnail(drawing.draw_mask(image, mask, data.classes, side=drawing.SMALL), drawing.SMALL)
