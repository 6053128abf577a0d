"""Assignment of the images of each step to processes and micro-batches, and their random numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from trickzoo.errors import BadData, BadOption
from trickzoo.recipes.collection import AnyRecipe
from trickzoo.training import schedule
from trickzoo.training.balance import balanced_order
from trickzoo.wording import count

ORDER, IMAGES, PROCESS, LAYERS = range(4)
"""Uses of random numbers: the order of an epoch, the images of a step, a process in a step, and the layers on an image of a step."""


def seed_of(*key: int) -> int:
    """Return a seed of 63 bits that depends on the whole key. Two keys of the same length practically never have the same seed."""
    words = np.random.SeedSequence(key).generate_state(2, np.uint32)
    return int(words[0]) << 31 | int(words[1]) >> 1


def generator(*key: int) -> torch.Generator:
    """Return a generator on the CPU with the seed `seed_of(*key)`."""
    return torch.Generator().manual_seed(seed_of(*key))


@dataclass(frozen=True)
class Shares:
    """Images that this process takes at each step, and their random numbers, which follow from the seed, the epoch and the step alone.

    Attributes:
        n: number of training images.
        batch_size: number of images in a step, over all processes.
        draws: number of uniform draws for each image.
        seed: random seed.
        world: number of processes.
        rank: number of this process, from 0.
        micro: number of images in a micro-batch.
        stream: whether the data set decides the order of the images; the indices then count the images over all epochs.
        labels: (n,) the class of each image, if each class is to occur equally often in an epoch; otherwise None.
    """

    n: int
    batch_size: int
    draws: int
    seed: int
    world: int
    rank: int
    micro: int
    stream: bool = False
    labels: NDArray[np.int64] | None = field(default=None, compare=False)

    @classmethod
    def of(cls, n: int, recipe: AnyRecipe, draws: int, seed: int, accelerator: Accelerator, micro: int | None, **options: Any) -> Shares:
        """Return the shares of this process.

        Args:
            n: number of training images.
            recipe: recipe of the training.
            draws: number of uniform draws for each image.
            seed: random seed.
            accelerator: number of processes, and the number of this one.
            micro: number of images in a micro-batch; None takes the whole share of the process at once.
            options: `stream` and `labels`.

        Raises BadData if the batch is larger than the training set, BadOption if it cannot be divided among processes and micro-batches,
        and what `schedule.check` raises.
        """
        world, size = accelerator.num_processes, recipe.batch_size
        micro = size // world if micro is None else micro
        if size > n:
            raise BadData(f"the batch of {size} is larger than the training set of {count(n, 'image')}; lower --batch-size")
        if micro < 1 or size % (world * micro):
            raise BadOption(
                f"a batch of {size} cannot be divided into {world} processes × micro-batches of {micro}; "
                "change --batch-size or --micro-batch"
            )
        schedule.check(recipe)
        return cls(n, size, draws, seed, world, accelerator.process_index, micro, **options)

    @property
    def per_epoch(self) -> int:
        """Number of steps in an epoch. Images that do not fill a batch are not used in that epoch."""
        return self.n // self.batch_size

    @property
    def rounds(self) -> int:
        """Number of micro-batches of a process in a step."""
        return self.batch_size // (self.world * self.micro)

    @property
    def divided(self) -> bool:
        """Whether a batch is divided into several micro-batches, in one process or over several."""
        return self.micro < self.batch_size

    def of_epochs(self, first_step: int, end: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the micro-batches of this process from the 0-based `first_step` on, `rounds` for each step.

        They go to the end of the epoch of that step, or to the beginning of the 0-based epoch `end`. Each is a pair of (micro,) indices of
        images and (micro, draws) uniform draws.
        """
        batch = self.batch_size
        last_step = (first_step // self.per_epoch + 1 if end is None else end) * self.per_epoch
        order = self._order(first_step // self.per_epoch)
        for step in range(first_step, last_step):
            epoch = step // self.per_epoch
            if step > first_step and step % self.per_epoch == 0:
                order = self._order(epoch)
            start = (step - epoch * self.per_epoch) * batch
            draws = torch.rand((batch, self.draws), generator=generator(self.seed, IMAGES, step))
            whole = (self.rounds, self.world, self.micro)
            mine = order[start : start + batch].view(whole)[:, self.rank]
            yield from zip(mine, draws.view(*whole, self.draws)[:, self.rank], strict=True)

    def _order(self, epoch: int) -> Tensor:
        """Return the (n,) indices of the images in the order of an epoch."""
        if self.stream:
            return epoch * self.n + torch.arange(self.n)
        draws = generator(self.seed, ORDER, epoch)
        return torch.randperm(self.n, generator=draws) if self.labels is None else balanced_order(self.labels, draws)

    def layer_seeds(self, step: int, part: int) -> Sequence[int]:
        """Return a seed for each image of the micro-batch number `part` of a step, from which layers draw dropout masks and boxes.

        A seed depends on the place of the image in the whole batch, not on the number of processes or the size of micro-batches.
        """
        first = (part * self.world + self.rank) * self.micro
        return _LayerSeeds((self.seed, LAYERS, step), range(first, first + self.micro))


@dataclass(frozen=True)
class _LayerSeeds(Sequence[int]):
    """The seeds of images at these places of a batch. They are computed when a layer asks for them, because most networks never do."""

    key: tuple[int, ...]
    places: range

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...
    def __getitem__(self, index: int | slice) -> int | Sequence[int]:
        if isinstance(index, slice):
            return _LayerSeeds(self.key, self.places[index])
        return seed_of(*self.key, self.places[index])
