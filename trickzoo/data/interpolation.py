"""RoIAlign (He et al., arXiv 1703.06870) along one side of a map or an image, as weighted sums of its rows or columns."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class WeightedSums(NamedTuple):
    """The K rows of a map, or its columns, whose weighted sum is a row or a column of the output: two (R, cells, K) tensors."""

    places: Tensor
    weights: Tensor


def weighted_sums(first: Tensor, step: Tensor, cells: int, length: Tensor, number: Tensor) -> WeightedSums:
    """Return the sums that give the output cells. A cell is the mean of equally spaced points, which are interpolated linearly.

    A point that lies up to one cell beyond the border takes the value at the border, and one further out is 0, as in torchvision.

    Args:
        first: (R,) where each RoI begins, in cells of its map; the centre of the first cell is 0.
        step: (R,) side of an output cell, in cells of the map.
        cells: number of output cells along the side.
        length: (R,) number of cells of the RoI's map along the side.
        number: (R,) number of points in an output cell.
    """
    first, step, end, number = (each[:, None, None] for each in (first, step, length - 1, number))
    point = torch.arange(int(number.max()) if len(number) else 1)
    at = first + torch.arange(cells)[:, None] * step + (point + 0.5) * step / number
    unused = (at < -1) | (at > end + 1) | (point >= number)
    at = torch.minimum(at.clamp(min=0), end.to(at.dtype))
    low = at.long().clamp(min=0)  # the index of a position that is NaN would be out of range
    share = at - low
    places = torch.stack([low, torch.minimum(low + 1, end.long())], -1)
    weights = torch.stack([1 - share, share], -1) / number[..., None]
    return WeightedSums(places.flatten(2), weights.masked_fill(unused[..., None], 0).flatten(2))
