"""Batches of samples that workers make: the micro-batches of a training run, and what an evaluation computes for each sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import Dataset

from trickzoo.data.contents import REPAIR, SKIP
from trickzoo.data.workers import computed, in_workers
from trickzoo.errors import BadData

BatchPlan = Iterable[tuple[Tensor, Tensor]]
"""Micro-batches: for each of them, (k,) indices of images and (k, DRAWS) uniform draws."""


class AnnotatedSample(Protocol):
    """An image with its annotation, as a worker returns it. `error` is the reason why it cannot be used; otherwise it is empty."""

    @property
    def error(self) -> str: ...


S = TypeVar("S", bound=AnnotatedSample)
R = TypeVar("R")


def read_batches(samples: Dataset[S], plan: BatchPlan, workers: int, device: torch.device) -> Iterator[list[S]]:
    """Yield the samples of each micro-batch of a plan, which workers make for a training run on the device.

    Raises BadData with the first error among them.
    """
    keys = ([(int(i), row) for i, row in zip(indices, draws, strict=True)] for indices, draws in plan)
    return _checked(in_workers(samples, keys, workers, trains_on=device))


def map_share(
    samples: Dataset[S], function: Callable[[S], R], accelerator: Accelerator, n: int, workers: int, *, here: bool = False
) -> Iterator[R]:
    """Yield what a function returns for the samples of this process's share of n images, in order.

    On a CPU the workers call the function, each of them on one thread, unless `here` is set. Then, and on an accelerator, this process
    does. Raises BadData with the first error among the samples.
    """
    mine = ([index] for index in range(accelerator.process_index, n, accelerator.num_processes))
    by_workers = accelerator.device.type == "cpu" and not here
    for batch in computed(samples, mine, workers, _Mapped(function), by_workers=by_workers):
        for error, found in batch:
            if error:
                raise BadData(f"{error}; {REPAIR}")
            yield found


@dataclass(frozen=True)
class _Mapped:
    """For the samples of a batch, the error of each, or what a function returns for it."""

    function: Callable[[Any], Any]

    def __call__(self, samples: list[Any]) -> list[tuple[str, Any]]:
        return [(sample.error, None if sample.error else self.function(sample)) for sample in samples]


def _checked(batches: Iterable[list[S]]) -> Iterator[list[S]]:
    for batch in batches:
        for sample in batch:
            if sample.error:
                raise BadData(f"{sample.error}; {REPAIR}; {SKIP}")
        yield batch


def not_none(tensor: Tensor | None) -> Tensor:
    """Return the tensor of a sample without an error, which is not None."""
    assert tensor is not None
    return tensor
