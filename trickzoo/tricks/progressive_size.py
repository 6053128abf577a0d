"""Progressive image size (Howard 2018, fast.ai's DAWNBench entries; Tan and Le, arXiv 2104.00298). Not in the paper."""

from __future__ import annotations

from trickzoo.errors import NoEffect

MULTIPLE = 16
"""Sizes on the way are multiples of this many pixels, so that the maps of every stage but the last have whole sides."""


def training_size(epoch: int, epochs: int, first: int, last: int, *, growth: float = 0.8) -> int:
    """Return the side of the training images in pixels in an epoch, counted from 0.

    It grows linearly from `first` to `last` over the fraction `growth` of the epochs, in multiples of 16 pixels.

    Raises NoEffect if the images would not grow.
    """
    if first >= last or growth <= 0:
        raise NoEffect("progressive size", f"{first} pixels do not grow to {last} over {growth:g} of the epochs")
    along = epoch / (growth * epochs)
    if along >= 1:
        return last
    return min(last, max(first, round((first + (last - first) * along) / MULTIPLE) * MULTIPLE))
