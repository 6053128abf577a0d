"""Comparison of two classifiers by their predictions for the same images, and finding the files of predictions of any task."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

from trickzoo.errors import BadData
from trickzoo.files import open_regular, read_regular
from trickzoo.output_files import BOXES, NETWORK, PREDICTIONS
from trickzoo.wording import count

LONGEST = 1 << 20
"""How many bytes of the first line of a file are read to find out what it holds."""
Z = NormalDist().inv_cdf(0.975)
"""The 97.5 % quantile of the normal distribution."""


@dataclass(frozen=True)
class Changed:
    """An image that exactly one of the two classifiers gets right: its name, its class, and what each one predicts."""

    image: str
    label: str
    first: str
    second: str


@dataclass(frozen=True)
class Comparison:
    """The result of comparing two classifiers on n images.

    Attributes:
        n: number of images.
        top1: top-1 of each, in percent.
        lost, won: the images that only the first one, and that only the second one, gets right.
        difference: top-1 of the second minus that of the first, in points.
        interval: its 95 % confidence interval in points (Bonett and Price, 2012).
        p: two-sided p of McNemar's exact test, as `mcnemar` returns it.
    """

    n: int
    top1: tuple[float, float]
    lost: tuple[Changed, ...]
    won: tuple[Changed, ...]
    difference: float
    interval: tuple[float, float]
    p: float


def find(path: Path) -> tuple[str, Path]:
    """Return the task of the network whose predictions a file, or a folder, holds, and the file.

    The folder is that of a training, whose network may be named instead, or one that `trickzoo eval --predictions` wrote. A table without
    columns of a segmenter is assumed to be a classifier's. Raises BadData if the file cannot be read.
    """
    if path.name == NETWORK:
        path = path.parent
    if path.is_dir():
        path = path / (BOXES if (path / BOXES).exists() else PREDICTIONS)
    if path.suffix == ".json":
        return "detection", path
    try:
        with open_regular(path) as file:
            header = file.readline(LONGEST).decode().split(",")
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    return "segmentation" if header[:2] == ["image", "right"] else "classification", path


def _unreadable(file: Path, error: Exception) -> BadData:
    reason = getattr(error, "strerror", None) or "it is not a CSV file"
    return BadData(f"{file} cannot be read ({reason}); name the folder of a training run, or a file that --predictions wrote")


def compare(first: Path, second: Path) -> Comparison:
    """Compare two files of predictions of classifiers, which must be for the same images with the same classes.

    Raises BadData if a file cannot be read, or if the images or their classes differ.
    """
    one, two = read(first), read(second)
    check_same_images(first, second, one, two)
    for image, (label, _) in one.items():
        if two[image][0] != label:
            raise BadData(f"{image} is {label} in {first} and {two[image][0]} in {second}; compare predictions for the same labels")
    rows = [Changed(image, label, predicted, two[image][1]) for image, (label, predicted) in one.items()]
    lost = tuple(row for row in rows if row.first == row.label != row.second)
    won = tuple(row for row in rows if row.second == row.label != row.first)
    n, b, c = len(rows), len(lost), len(won)
    right = [sum(getattr(row, which) == row.label for row in rows) for which in ("first", "second")]
    return Comparison(n, (100 * right[0] / n, 100 * right[1] / n), lost, won, 100 * (c - b) / n, paired_interval(b, c, n), mcnemar(b, c))


def check_same_images(first: Path, second: Path, one: Collection[str], two: Collection[str]) -> None:
    """Raise BadData unless two files of predictions are for the same images, whose names are `one` and `two`."""
    for here, there, name, other in ((one, two, first, second), (two, one, second, first)):
        if missing := sorted(set(here) - set(there)):
            raise BadData(
                f"{other} has no prediction for {missing[0]}, as {name} has ({count(len(missing), 'image')}); compare the same images"
            )


def read(path: Path) -> dict[str, tuple[str, str]]:
    """Return the class and the most probable class of each image in a file of predictions."""
    try:
        rows = list(csv.DictReader(io.StringIO(read_regular(path).decode(), newline="")))
    except (OSError, ValueError, csv.Error) as error:
        raise _unreadable(path, error) from None
    if not rows or not {"image", "class", "top1"} <= rows[0].keys():
        raise BadData(f"{path} has no columns image, class and top1; name the folder of a training run, or a file that --predictions wrote")
    if any(None in row or None in row.values() for row in rows):  # a row of fewer or of more cells than the first line
        raise BadData(f"{path} is damaged: not all of its rows have the same columns; evaluate again with --predictions")
    found = {row["image"]: (row["class"], row["top1"]) for row in rows}
    if len(found) < len(rows):
        raise BadData(f"{path} has two rows for the same image; evaluate again with --predictions")
    return found


def mcnemar(lost: int, won: int) -> float:
    """Return the two-sided p of McNemar's exact test for the numbers of images that only the first and only the second one gets right.

    It is the probability of a division at least as uneven as this one, if each of these images were equally likely to be `lost` or `won`.
    """
    from scipy.stats import binomtest

    return float(binomtest(lost, lost + won, 0.5).pvalue) if lost + won else 1.0


def paired_interval(lost: int, won: int, n: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of the difference of two accuracies on the same n images, in points.

    It is the Wald interval for paired proportions with one image added to `lost` and to `won` (Bonett and Price, 2012).
    """
    b, c, m = (lost + 1) / (n + 2), (won + 1) / (n + 2), n + 2
    half = Z * math.sqrt((b + c - (c - b) ** 2) / m)
    return 100 * max(c - b - half, -1), 100 * min(c - b + half, 1)
