"""Average precision of resampled images: the detections are matched once, and each draw only accumulates them anew."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trickzoo import bootstrap
from trickzoo.data.boxes import DetectionSet
from trickzoo.detection.metrics import Detections, coco_matches

RECALLS = np.linspace(0, 1, 101)
"""The recalls at which COCO takes the precision."""
AT_ONCE = 2**22
"""How many cumulative counts are computed at a time; they take about 100 MB."""


@dataclass(frozen=True)
class Matched:
    """The detections of one class in n images by falling score, matched as pycocotools does at each of T thresholds of the IoU.

    Attributes:
        images: (m,) the image of each detection, from 0.
        right: (T, m) whether it matches an object.
        wrong: (T, m) whether it matches nothing. Detections that are ignored are neither right nor wrong.
        objects: (n,) the number of objects to find in each image.
    """

    images: NDArray[np.int64]
    right: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    objects: NDArray[np.int64]

    def alone(self, image: int) -> Matched:
        """Return the detections in one image."""
        mine = self.images == image
        return Matched(np.zeros(int(mine.sum()), np.int64), self.right[:, mine], self.wrong[:, mine], self.objects[[image]])


def match(data: DetectionSet, found: Mapping[int, Detections]) -> list[Matched]:
    """Match detections with the objects of a set, at COCO's ten thresholds of the IoU, and return them for each class.

    `found` has the detections of images by their index. Image k of the result is the k-th of these in ascending order.
    """
    classes = []
    for images in coco_matches(data, found):
        there = [(k, each) for k, each in enumerate(images) if each is not None]
        scores, of = (
            np.concatenate([np.zeros(0), *(values(k, each) for k, each in there)])
            for values in (lambda k, each: each["dtScores"], lambda k, each: np.full(len(each["dtScores"]), k))
        )
        matched, ignored = (
            np.concatenate([np.zeros((10, 0)), *(each[name] for _, each in there)], axis=1) > 0 for name in ("dtMatches", "dtIgnore")
        )
        objects = np.zeros(len(images), np.int64)
        for k, each in there:
            objects[k] = np.count_nonzero(np.asarray(each["gtIgnore"]) == 0)
        order = np.argsort(-scores, kind="stable")
        right, wrong = (matched & ~ignored)[:, order], (~matched & ~ignored)[:, order]
        classes.append(Matched(of[order].astype(np.int64), right, wrong, objects))
    return classes


def precisions(matched: Matched, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (b, T, 101) precisions of a class at `RECALLS` in (b, n) weighted images, NaN in a row without objects.

    They are those of pycocotools for a set in which each image occurs as often as its weight says. If one image has a right and a wrong
    detection of equal scores, the order of its copies is another one.
    """
    overlaps, m = matched.right.shape
    step = max(AT_ONCE // max(overlaps * m, 1), 1)
    return np.concatenate([_precisions(matched, weights[first : first + step]) for first in range(0, len(weights), step)])


def _precisions(matched: Matched, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    positives = weights @ matched.objects
    result = np.zeros((len(weights), len(matched.right), len(RECALLS)))
    if matched.right.shape[1]:
        each = weights[:, None, matched.images]
        hits, errors = ((each * which).cumsum(2) for which in (matched.right, matched.wrong))
        precision = hits / (hits + errors + np.spacing(1))
        best = np.maximum.accumulate(precision[..., ::-1], axis=2)[..., ::-1]  # at this recall or any higher
        for row, (number, least) in enumerate(zip(positives.tolist(), _needed(positives), strict=True)):
            for overlap in range(len(result[row]) if number else 0):
                places = np.searchsorted(hits[row, overlap], least)
                reached = places < hits.shape[2]
                result[row, overlap, reached] = best[row, overlap, places[reached]]
    result[positives == 0] = np.nan
    return result


def _needed(positives: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (b, 101) least numbers of hits whose recall, as a floating-point number, is at least that of `RECALLS`."""
    of = np.maximum(positives, 1)[:, None]
    least = np.floor(RECALLS * of).astype(np.int64)
    return least + (least / of < RECALLS)


def average_precisions(classes: Sequence[Matched], weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (b, 2) COCO's AP and AP50 in 0…1 of (b, n) weighted images, the means over the classes that have objects; NaN without any."""
    each = np.stack([precisions(matched, weights).mean(2) for matched in classes])  # class, draw, overlap
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy warns of draws without objects
        return np.stack([np.nanmean(each, axis=(0, 2)), np.nanmean(each[..., 0], axis=0)], axis=1)


@dataclass(frozen=True)
class Curves:
    """The precision at each of `RECALLS`, at an IoU of 0.5, with the ends of 95 % intervals over the images.

    Attributes:
        classes: (C,) places of the classes that have objects.
        each, of_each: (C, 101) the precision of each class, and the lower and upper ends.
        mean, of_mean: (101,) their mean, and its ends.
    """

    classes: tuple[int, ...]
    each: NDArray[np.float64]
    of_each: tuple[NDArray[np.float64], NDArray[np.float64]]
    mean: NDArray[np.float64]
    of_mean: tuple[NDArray[np.float64], NDArray[np.float64]]


def curves(classes: Sequence[Matched], draws: int) -> Curves:
    """Return the precision of each class at each recall, and the intervals from this many bootstrap draws of the images."""
    there = tuple(place for place, matched in enumerate(classes) if matched.objects.any())
    if not there:
        nothing = np.zeros((0, len(RECALLS)))
        return Curves((), nothing, (nothing, nothing), nothing.sum(0), (nothing.sum(0), nothing.sum(0)))
    first = [replace(classes[place], right=classes[place].right[:1], wrong=classes[place].wrong[:1]) for place in there]

    def each(weights: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.stack([precisions(matched, weights)[:, 0] for matched in first], axis=1)

    n = len(classes[0].objects)
    observed, drawn = each(np.ones((1, n), np.int64))[0], bootstrap.resampled(each, n, draws)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy warns of draws without objects
        means = np.nanmean(drawn, axis=1)
    return Curves(there, observed, bootstrap.interval(drawn), observed.mean(0), bootstrap.interval(means))


def of_single_images(classes: Sequence[Matched]) -> NDArray[np.float64]:
    """Return (n,) AP50 of each image alone, in 0…1, NaN for an image without objects."""
    n = len(classes[0].objects)
    values: list[list[float]] = [[] for _ in range(n)]
    for matched in classes:
        for image in np.flatnonzero(matched.objects).tolist():
            precision: Any = precisions(matched.alone(image), np.ones((1, 1), np.int64))
            values[image].append(float(precision[0, 0].mean()))
    return np.array([np.mean(each) if each else np.nan for each in values])
