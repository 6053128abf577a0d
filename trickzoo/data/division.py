"""Dividing the images of a set into training and validation images, class by class, with near duplicates on one side."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from trickzoo.data import contents, images
from trickzoo.data.identity import name_bytes

SIDE = 16
"""Side in pixels of the thumbnails that are compared."""
ALIKE = 0.2
"""How far two thumbnails of near duplicates may differ, as a fraction of the standard deviation of their values.

The difference is the root of the mean square. Among 1,058 photographs of Imagenette, COCO and BCCD, copies of half the side or of JPEG
quality 50 differ by at most 0.15, and two different images, but for one pair of BCCD, by at least 0.55.
"""
ROUNDING = 0.5
"""How far two thumbnails of near duplicates may differ in any case, in levels of 0 to 255: images of one colour have no deviation."""
BLOCK = 512
"""How many thumbnails are compared with the others at a time."""


def thumbnails(read: Callable[[int], bytes], names: Sequence[str]) -> NDArray[np.float32]:
    """Return (n, SIDE · SIDE · 3) values of 0 to 255: each image reduced to SIDE × SIDE pixels.

    Args:
        read: returns the bytes of the file of an image.
        names: the names of the images, for messages.

    Raises BadData for the first image that cannot be read, with a remedy.
    """
    found = contents.each_image(lambda index: images.thumbnail(read(index), names[index], SIDE), len(names))
    return np.stack([each.reshape(-1) for each in found]).astype(np.float32)


def near_duplicates(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return (n,) the group of each image: the index of the first image that it is a near duplicate of, directly or over others.

    `values` is (n, d), from `thumbnails`. Only images of a similar brightness are compared, because the difference of two means is never
    above the root mean square of the differences.
    """
    order = np.argsort(values.mean(1), kind="stable")
    ordered = values[order] - 128
    mean, squares = ordered.mean(1), (ordered**2).sum(1)
    limit = np.maximum(ALIKE * ordered.std(1), ROUNDING)
    parent = np.arange(len(values))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = int(parent[index])
        return index

    for start in range(0, len(ordered), BLOCK):
        block = slice(start, start + BLOCK)
        end = int(np.searchsorted(mean, (mean[block] + limit[block]).max(), side="right"))
        distance = squares[block, None] + squares[None, start:end] - 2 * ordered[block] @ ordered[start:end].T
        most = np.minimum(limit[block, None], limit[None, start:end]) ** 2 * values.shape[1]
        for first, second in zip(*np.nonzero(distance <= most), strict=True):
            a, b = sorted((root(int(order[start + first])), root(int(order[start + second]))))
            parent[b] = a
    return np.array([root(index) for index in range(len(values))], np.int64)


def joined(groups: NDArray[np.int64], keys: Sequence[Hashable]) -> NDArray[np.int64]:
    """Return (n,) groups in which two images are together if they are in one of the given groups, or have the same key.

    The group of an image is the index of the first image in it, as in `near_duplicates`.
    """
    numbers: dict[Hashable, int] = {}
    keyed = [numbers.setdefault(key, len(groups) + len(numbers)) for key in keys]
    size = len(groups) + len(numbers)
    own, others = np.arange(len(groups), dtype=np.int32), np.concatenate([groups, keyed], dtype=np.int32)
    # SciPy 1.11 finds no components of a graph whose indices have 64 bits, and only prints why.
    edges = coo_array((np.ones(2 * len(groups), np.bool_), (np.tile(own, 2), others)), (size, size))
    component = connected_components(edges, directed=False)[1][: len(groups)]
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def divide(names: Sequence[str], labels: Sequence[str], groups: Sequence[int], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Return (n,) whether each image is for validation: about `fraction` of the images of each class.

    The images of a group are never separated. A class of two images or more keeps at least two for training, and a class of three or more
    gets at least one for validation, unless this takes a group with more than half the images of a class. The choice follows from the names
    and the seed, so it does not depend on the order of the images, and an image that is added to the set moves few of the others.

    Args:
        names: the names of the images.
        labels: their classes.
        groups: for each image, the number of its group, as `near_duplicates` and `joined` return it.
        fraction: the fraction of the images of each class that is for validation, above 0 and below 1.
        seed: selects one of many divisions.
    """
    sizes = Counter(labels)
    wanted = {label: min(max(round(fraction * n), 1), max(n - 2, 0)) for label, n in sizes.items()}
    members: dict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    drawn = sorted(members.values(), key=lambda group: min(_draw(seed, names[index]) for index in group))
    chosen: Counter[str] = Counter()
    val = np.zeros(len(names), np.bool_)
    _choose(drawn, labels, val, chosen, wanted)
    most = {label: min(n // 2, max(n - 2, 0)) for label, n in sizes.items()}
    for label in sizes:
        if not chosen[label]:  # every group is larger than the share of one of its classes
            own = [group for group in drawn if any(labels[index] == label for index in group)]
            for smallest in sorted(own, key=len):
                if not chosen[label]:
                    _choose([smallest], labels, val, chosen, most)
    return val


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0".encode() + name_bytes(name)).digest()


def _choose(
    groups: Sequence[list[int]], labels: Sequence[str], val: NDArray[np.bool_], chosen: Counter[str], wanted: Mapping[str, int]
) -> None:
    """Add each group that leaves every class within its `wanted` number to the validation images, and count them in `chosen`."""
    for group in groups:
        adds = Counter(labels[index] for index in group)
        if all(chosen[label] + n <= wanted[label] for label, n in adds.items()):
            chosen.update(adds)
            val[group] = True
