"""Times several variants of an action in turns, so that a change of the machine's speed during a run affects all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def interleaved(variants: dict[str, Callable[[], Any]], pairs: int, warmup: int = 1) -> dict[str, list[float]]:
    """Return the wall time in seconds of each call, by the name of the variant.

    Args:
        variants: functions without arguments. One call of each, in turns, is a round: A B C A B C …. A function that returns a float has
            measured the seconds itself.
        pairs: number of rounds that are timed. The i-th times of all variants belong to the same round.
        warmup: number of rounds before them that are not timed.
    """
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(warmup + pairs):
        for name, action in variants.items():
            start = time.perf_counter()
            result = action()
            taken = result if isinstance(result, float) else time.perf_counter() - start
            if turn >= warmup:
                times[name].append(taken)
    return times
