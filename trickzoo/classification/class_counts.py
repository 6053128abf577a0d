"""The number of images of each class of a training run: counts for the result file, a line for the user, and whether to balance them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trickzoo.data.loaders import TrainingImages
from trickzoo.data.resident import Resident
from trickzoo.errors import BadOption, NoEffect
from trickzoo.recipes.recipe import Recipe
from trickzoo.wording import count

SHOWN = 10
"""How many classes the line names."""
UNEVEN = 3
"""How many times the images of the smallest class the largest must have for the advice to balance them."""


def in_words(data: TrainingImages, *, advise: bool) -> tuple[str, ...]:
    """Return a line with the number of images of each class, the largest first, or nothing for a stream.

    With `advise`, it advises to balance classes of very different sizes.
    """
    if data.labels is None:
        return ()
    sizes = np.bincount(data.labels, minlength=len(data.classes))
    listed = ", ".join(f"{data.classes[i]} {sizes[i]:,}" for i in np.argsort(-sizes, kind="stable")[:SHOWN])
    left = len(sizes) - SHOWN
    more = f", {count(left, 'more class')} down to {sizes.min():,}" if left > 0 else ""
    uneven = advise and sizes.max() >= UNEVEN * sizes.min()
    advice = "; --balance sampler or --balance loss gives all classes the same weight" if uneven else ""
    return (f"training images: {listed}{more}{advice}",)


def counts(data: TrainingImages, val: Resident | None) -> dict[str, Any]:
    """Return the number of training and of validation images of each class, as a field of the result file; nothing for a stream."""
    if data.labels is None:
        return {}
    parts = {"train": data.labels, **({"val": val.labels} if val is not None else {})}
    sizes = {part: np.bincount(labels, minlength=len(data.classes)).tolist() for part, labels in parts.items()}
    return {"class_counts": {name: {part: of[i] for part, of in sizes.items()} for i, name in enumerate(data.classes)}}


def to_balance(recipe: Recipe, data: TrainingImages) -> NDArray[np.int64] | None:
    """Return the labels of the training images if the recipe balances their classes, otherwise None.

    Raises BadOption for a stream, whose labels are not known, and NoEffect if all classes have the same number of images.
    """
    if recipe.balance is None:
        return None
    if data.labels is None:
        raise BadOption("the images are streamed, so the sizes of their classes are not known; add --decode once, or leave --balance out")
    sizes = np.bincount(data.labels, minlength=len(data.classes))
    if sizes.min() == sizes.max():
        raise NoEffect("balance", f"all classes have {count(sizes.max(), 'image')}")
    return data.labels
