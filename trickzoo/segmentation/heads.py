"""Heads of segmenters, which compute class scores from a backbone's feature map. A new head is a module and an entry in `HEADS`."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from trickzoo.errors import UnknownName


class FCNHead(nn.Sequential):
    """The head of FCN (Long et al., arXiv 1411.4038), as in the paper's implementation.

    It consists of a 3x3 convolution to a quarter of the channels, BatchNorm, ReLU, dropout, and a 1x1 convolution to the classes.
    """

    def __init__(self, channels: int, num_classes: int, drop_rate: float) -> None:
        inner = channels // 4
        super().__init__(
            nn.Conv2d(channels, inner, 3, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Dropout(drop_rate),
            nn.Conv2d(inner, num_classes, 1),
        )


HEADS: dict[str, Callable[[int, int, float], nn.Module]] = {"fcn": FCNHead}
"""The heads by name. Each is called with the number of channels of the feature map, the number of classes, and the dropout rate.

The last child of a head is the layer that gives the scores: it is initialised anew if the weights to start from are for other classes."""


def find_head(name: str) -> Callable[[int, int, float], nn.Module]:
    """Return the head of this name. Raises UnknownName, with the nearest names, if there is none."""
    if name not in HEADS:
        raise UnknownName("head", name, HEADS)
    return HEADS[name]
