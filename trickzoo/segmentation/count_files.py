"""Files with the counts of each image, from which the mean IoU of any choice of the images can be computed."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trickzoo.data.masks import SegmentationSet
from trickzoo.errors import BadData
from trickzoo.files import read_regular
from trickzoo.result_files import write_csv
from trickzoo.segmentation.metrics import ConfusionMatrix

PARTS = ("intersection", "union")
MARGIN = "margin"
"""The last column: the mean margin of the most probable class over the second one. It is not a count, and older files lack it."""


@dataclass(frozen=True)
class Counts:
    """The counts of n images with K classes.

    Attributes:
        names: the images.
        classes: the classes.
        right, judged: (n,) numbers of right and of judged pixels.
        intersection, union: (n, K) pixels of each class that are annotated and predicted, and that are annotated or predicted.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    right: NDArray[np.int64]
    judged: NDArray[np.int64]
    intersection: NDArray[np.int64]
    union: NDArray[np.int64]

    def take(self, order: Sequence[int]) -> Counts:
        """Return the counts of these images."""
        names = tuple(self.names[index] for index in order)
        return Counts(names, self.classes, *(each[list(order)] for each in (self.right, self.judged, self.intersection, self.union)))


def write(path: Path, data: SegmentationSet, found: ConfusionMatrix) -> None:
    """Write the counts of each image to a CSV file: right and judged pixels, each class's pixels in intersection and union, and the margin.

    Raises NotWritten if it cannot be written.
    """
    header = [f"{part} of {name}" for name in data.classes for part in PARTS]
    rows = (
        (data.name(index), each.right, each.judged, *np.stack([each.intersection, each.union], 1).ravel().tolist(), f"{each.margin:.6f}")
        for index, each in sorted(found.images.items())
    )
    write_csv(path, ("image", "right", "judged", *header, MARGIN), rows)


def read(path: Path) -> Counts:
    """Read a file that `write` wrote. Raises BadData if it is damaged, or of an earlier version, which has no columns for the classes."""
    try:
        header, *rows = csv.reader(io.StringIO(read_regular(path).decode(), newline=""))
        if header[-1:] == [MARGIN]:
            header, rows = header[:-1], [row[:-1] for row in rows]
        numbers = np.array([row[1:] for row in rows], np.int64)
    except (OSError, ValueError, OverflowError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "it is not a table of counts"
        raise BadData(f"{path} cannot be read ({reason}); name the folder of a training run or of --predictions") from None
    stated = header[3:]
    classes = tuple(name.partition(" of ")[2] for name in stated[::2])
    if not rows or numbers.shape[1:] != (len(header) - 1,) or (numbers < 0).any():
        raise BadData(f"{path} is damaged; evaluate again with --predictions")
    if not classes or stated != [f"{part} of {name}" for name in classes for part in PARTS]:
        raise BadData(f"{path} has no pixels of each class, as files of earlier versions; evaluate again with --predictions FOLDER")
    right, judged = numbers[:, 0], numbers[:, 1]
    intersection, union = np.moveaxis(numbers[:, 2:].reshape(len(rows), len(classes), 2), 2, 0)
    # the sum of all unions has each right pixel once, and each other one in its true and in its predicted class
    if (intersection > union).any() or (intersection.sum(1) != right).any() or (union.sum(1) != 2 * judged - right).any():
        raise BadData(f"{path} is damaged: its counts do not fit each other; evaluate again with --predictions")
    return Counts(_names(path, rows), classes, right, judged, intersection, union)


def _names(path: Path, rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    names = tuple(row[0] for row in rows)
    if len(set(names)) < len(names):
        raise BadData(f"{path} has two rows for the same image; evaluate again with --predictions")
    return names


def mean_iou(counts: Counts, weights: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """Return (b, 2) mean IoU and pixel accuracy in 0…1 of (b, n) weighted images, or (n, 2) of each image; NaN without a judged pixel.

    The mean is over the classes that are annotated or predicted in these images.
    """
    parts = (counts.intersection, counts.union, counts.right[:, None], counts.judged[:, None])
    # floating-point numbers hold these sums exactly, and their product is much faster than that of whole numbers
    intersection, union, right, judged = parts if weights is None else (weights.astype(np.float64) @ each for each in parts)
    there = union > 0
    each = np.divide(intersection, union, out=np.zeros(union.shape), where=there)
    with np.errstate(invalid="ignore"):
        return np.stack([each.sum(1) / there.sum(1), (right / judged)[:, 0]], axis=1)
