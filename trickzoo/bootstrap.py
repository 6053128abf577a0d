"""The bootstrap over images: how far a metric of a set of images would vary over other sets of as many images (Efron, 1979).

A draw takes n of n images with replacement. It is kept as the number of times that each image is taken, its weight. A metric of a draw is
computed from what was counted in each image once, so the networks do not run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

DRAWS = 1000
"""The number of draws by default."""
LEVEL = 0.95
AT_ONCE = 2**22
"""How many weights are drawn at a time; they take 32 MB."""


def weights(n: int, draws: int, seed: int = 0) -> Iterator[NDArray[Any]]:
    """Yield the bootstrap weights of n images as (b, n) integers, for b draws at a time until all draws are made.

    A weight is how often a draw contains the image. Each row sums to n.
    """
    import numpy as np

    random, step = np.random.default_rng(seed), max(AT_ONCE // n, 1)
    for first in range(0, draws, step):
        yield random.multinomial(n, np.full(n, 1 / n), size=min(step, draws - first))


def resampled(metric: Callable[[NDArray[Any]], NDArray[Any]], n: int, draws: int) -> NDArray[Any]:
    """Return a metric of each draw from n images, (draws, …). `metric` takes (b, n) weights and returns (b, …) values."""
    import numpy as np

    return np.concatenate([metric(each) for each in weights(n, draws)])


def interval(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the lower and the upper end of the 95 % interval of (draws, …) values, their quantiles.

    Draws whose value is NaN are left out. The ends are NaN if all are.
    """
    import warnings

    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy warns of columns that are NaN throughout
        low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high
