"""Times variants of an action in turns, and writes times and ratios to a result file."""

from __future__ import annotations

import functools
import gc
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trickzoo import environment
from trickzoo.result_files import write_json
from trickzoo.training.processes import keep_freed_memory

RESULTS = Path(__file__).parents[1] / "results" / "speed"
OURS = "trickzoo"
"""How the names of trickzoo's variants begin."""


@dataclass(frozen=True)
class Comparison:
    """An action, and the functions that perform it, one for each variant.

    Attributes:
        what: the action, such as "ResNet-50-D, batch 16".
        variants: functions without arguments, by name. The names of trickzoo's variants begin with `OURS`.
        work: number of images that a call processes; 0 if the action has no images.
        facts: further entries of the result, such as the largest difference of the outputs.
    """

    what: str
    variants: Mapping[str, Callable[[], Any]]
    work: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


class OwnProcess:
    """An action that calls a function in a process of its own, so that the memory of one variant does not change the speed of another.

    The process starts with the first call and serves all of them. It gets the function and its arguments once. If `as_command`, its malloc
    is set as the commands of trickzoo set it.
    """

    def __init__(self, as_command: bool, function: Callable[..., Any], *arguments: Any) -> None:
        spawn = multiprocessing.get_context("spawn")
        usual = multiprocessing.get_start_method()
        self.pool = ProcessPoolExecutor(1, mp_context=spawn, initializer=_begin, initargs=(as_command, usual, function, arguments))

    def __call__(self) -> Any:
        return self.pool.submit(_act).result()

    def close(self) -> None:
        """End the process."""
        self.pool.shutdown()


def _begin(as_command: bool, start_method: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    global _action
    multiprocessing.set_start_method(start_method, force=True)  # otherwise its own workers would be spawned, too
    if as_command:
        keep_freed_memory()
    _action = functools.partial(function, *arguments)


def _act() -> Any:
    return _action()


_action: Callable[[], Any]
"""What the process of an `OwnProcess` calls."""


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
            result = None
            gc.collect()  # so that no call spends time on what another one left
            start = time.perf_counter()
            result = action()
            taken = result if isinstance(result, float) else time.perf_counter() - start
            if turn >= warmup:
                times[name].append(taken)
    return times


def measure(comparison: Comparison, n: int, *, warmup: int = 1) -> dict[str, Any]:
    """Return the times of every variant in n rounds, and the ratios of the peers' times to trickzoo's in the same round.

    A ratio above 1 means that trickzoo is faster.
    """
    times = interleaved(dict(comparison.variants), n, warmup)
    for action in comparison.variants.values():
        if isinstance(action, OwnProcess):
            action.close()
    ours = [name for name in times if name.startswith(OURS)]
    return {
        "what": comparison.what,
        "n": n,
        **({"images": comparison.work} if comparison.work else {}),
        "seconds": {name: _summary(found, 6) for name, found in times.items()},
        "ratios": [
            {"variant": name, "peer": peer, **_summary([b / a for a, b in zip(times[name], times[peer], strict=True)], 3)}
            for name in ours
            for peer in times
            if peer not in ours
        ],
        **comparison.facts,
    }


def _summary(values: list[float], digits: int) -> dict[str, Any]:
    """Return median and range."""
    return {"median": round(statistics.median(values), digits), "range": [round(min(values), digits), round(max(values), digits)]}


def run(name: str, what: str, comparisons: Iterable[Comparison], n: int) -> None:
    """Measure comparisons one after the other, print each, and write `RESULTS`/NAME.json after each."""
    measured: list[dict[str, Any]] = []
    for comparison in comparisons:
        found = measure(comparison, n)
        measured.append(found)
        print(found["what"], flush=True)
        for variant, seconds in found["seconds"].items():
            rate = f", {found['images'] / seconds['median']:,.1f} images/s" if comparison.work else ""
            print(f"  {variant}: {seconds['median']:.4g} s{rate}")
        for ratio in found["ratios"]:
            low, high = ratio["range"]
            print(f"  {ratio['variant']} is {ratio['median']} × as fast as {ratio['peer']} ({low} to {high})", flush=True)
        command = f"python -m benchmarks.speed {' '.join(sys.argv[1:])}"
        write_json(RESULTS / f"{name}.json", {"what": what, "comparisons": measured, **environment.describe(), "command": command})
