"""Comparison of two detectors, or of two segmenters, by their predictions for the same images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trickzoo import bootstrap
from trickzoo.detection import box_files, resampling
from trickzoo.errors import BadData
from trickzoo.segmentation import count_files
from trickzoo.studies.comparison import check_same_images

Metric = Callable[[NDArray[np.int64]], NDArray[np.float64]]
"""Computes (b, F) metrics in 0…1 from (b, n) weights of the images."""


@dataclass(frozen=True)
class Difference:
    """A metric of both networks in percent, and the difference, the second minus the first, in points with its 95 % interval.

    A metric is None if nothing can be judged.
    """

    name: str
    first: float | None
    second: float | None
    difference: float | None
    interval: tuple[float, float] | None

    @property
    def significant(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


@dataclass(frozen=True)
class Changed:
    """An image whose metric differs, with the metrics of both networks in percent."""

    image: str
    first: float
    second: float

    @property
    def difference(self) -> float:
        """The second metric minus the first, in points."""
        return self.second - self.first


@dataclass(frozen=True)
class AnnotatedComparison:
    """The comparison of two networks on n images.

    Attributes:
        n: number of images.
        draws: number of bootstrap draws behind each interval.
        figures: the differences, the most important first.
        of_images: name of the metric by which single images are compared.
        changed: the images whose metric differs, the largest difference first. Images without a metric are left out.
    """

    n: int
    draws: int
    figures: tuple[Difference, ...]
    of_images: str
    changed: tuple[Changed, ...]


def compare_detectors(first: Path, second: Path, draws: int = bootstrap.DRAWS) -> AnnotatedComparison:
    """Compare two files of boxes by COCO's AP and AP50, and single images by the AP50 of the image alone.

    Raises BadData if a file cannot be read, or if the images, their classes or their objects differ.
    """
    (data, found), (other, theirs) = box_files.read(first), box_files.read(second)
    check_same_images(first, second, data.names, other.names)
    for what, here, there in (
        ("ids or sizes of images", data.images, other.images),
        ("classes", data.classes, other.classes),
        ("annotated boxes", data.objects.boxes.tolist(), other.objects.boxes.tolist()),
        ("labels", data.objects.labels.tolist(), other.objects.labels.tolist()),
    ):
        _check_equal(first, second, what, here, there)
    one, two = (resampling.match(data, each) for each in (found, theirs))
    names = ("COCO AP", "COCO AP50")
    metrics = [lambda weights, of=of: resampling.average_precisions(of, weights) for of in (one, two)]
    alone = [resampling.of_single_images(each) for each in (one, two)]
    return _compared(data.names, names, metrics, draws, "AP50", alone)


def compare_segmenters(first: Path, second: Path, draws: int = bootstrap.DRAWS) -> AnnotatedComparison:
    """Compare two files of counts by mean IoU and pixel accuracy, and single images by the mean IoU of the image alone.

    Raises BadData if a file cannot be read, or if the images, their classes or their judged pixels differ.
    """
    one, two = count_files.read(first), count_files.read(second)
    check_same_images(first, second, one.names, two.names)
    place = {name: index for index, name in enumerate(two.names)}
    two = two.take([place[name] for name in one.names])
    _check_equal(first, second, "classes", one.classes, two.classes)
    _check_equal(first, second, "numbers of annotated pixels", one.judged.tolist(), two.judged.tolist())
    metrics = [lambda weights, of=of: count_files.mean_iou(of, weights) for of in (one, two)]
    alone = [count_files.mean_iou(each)[:, 0] for each in (one, two)]
    return _compared(one.names, ("mean IoU", "pixel accuracy"), metrics, draws, "mean IoU", alone)


def _check_equal(first: Path, second: Path, what: str, one: object, two: object) -> None:
    if one != two:
        raise BadData(f"{first} and {second} have different {what}; compare predictions for the same annotations")


def _compared(
    images: Sequence[str],
    names: Sequence[str],
    of: Sequence[Metric],
    draws: int,
    of_images: str,
    alone: Sequence[NDArray[np.float64]],
) -> AnnotatedComparison:
    """Return the comparison by two functions that compute the metrics called `names`, and by metrics of single images."""
    n = len(images)
    one, two = (100 * metric(np.ones((1, n), np.int64))[0] for metric in of)
    low, high = bootstrap.interval(bootstrap.resampled(lambda weights: 100 * (of[1](weights) - of[0](weights)), n, draws))
    figures = tuple(
        Difference(name, None, None, None, None)
        if np.isnan(values).any()
        else Difference(name, float(values[0]), float(values[1]), float(values[1] - values[0]), (float(values[2]), float(values[3])))
        for name, *values in zip(names, one, two, low, high, strict=True)
    )
    rows = zip(images, *(each.tolist() for each in alone), strict=True)
    changed = [Changed(name, 100 * here, 100 * there) for name, here, there in rows if here != there and here == here and there == there]
    return AnnotatedComparison(n, draws, figures, of_images, tuple(sorted(changed, key=lambda each: -abs(each.difference))))
