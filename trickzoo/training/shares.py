"""Which images each process takes at each step, and the random numbers of each: all follow from the seed, the epoch and the step."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from trickzoo.errors import BadData, BadOption
from trickzoo.recipes.collection import AnyRecipe
from trickzoo.training import schedule

ORDER, IMAGES, PROCESS, LAYERS = range(4)
"""What random numbers are for: the order of an epoch, the images of a step, a process in a step, the layers on an image of a step."""


def seed_of(*key: int) -> int:
    """A seed of 63 bits that depends on the whole key, and that no other key of as many numbers is expected to share."""
    words = np.random.SeedSequence(key).generate_state(2, np.uint32)
    return int(words[0]) << 31 | int(words[1]) >> 1


def generator(*key: int) -> torch.Generator:
    """A generator that is seeded by `seed_of` the key."""
    return torch.Generator().manual_seed(seed_of(*key))


@dataclass(frozen=True)
class Shares:
    """Which images this process takes at each step, and with which draws: everything follows from seed, epoch and step."""

    n: int
    batch_size: int
    draws: int
    """Uniform draws of an image."""
    seed: int
    world: int
    rank: int
    micro: int
    stream: bool = False
    """The images come in an order of their own: indices count them over all epochs."""

    @classmethod
    def of(cls, n: int, recipe: AnyRecipe, draws: int, seed: int, accelerator: Accelerator, micro: int | None, **options: Any) -> Shares:
        """The shares of this process. Raises BadData or BadOption if the batch cannot be had, and what `schedule.check` raises."""
        world, size = accelerator.num_processes, recipe.batch_size
        micro = size // world if micro is None else micro
        if size > n:
            raise BadData(f"the batch of {size} is larger than the training set of {n} images; lower batch_size")
        if micro < 1 or size % (world * micro):
            raise BadOption(
                f"a batch of {size} cannot be cut into {world} processes × micro-batches of {micro}; change batch_size or --micro-batch"
            )
        shares = cls(n, size, draws, seed, world, accelerator.process_index, micro, **options)
        schedule.check(recipe, shares.per_epoch)
        return shares

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch; what is left of the set is not used in it."""
        return self.n // self.batch_size

    @property
    def rounds(self) -> int:
        """Micro-batches of a process in a step."""
        return self.batch_size // (self.world * self.micro)

    def of_epoch(self, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Micro-batches from `first_step` to the end of its epoch, `rounds` a step: (micro,) indices and (micro, draws) draws."""
        epoch, batch = first_step // self.per_epoch, self.batch_size
        order = (
            epoch * self.n + torch.arange(self.n) if self.stream else torch.randperm(self.n, generator=generator(self.seed, ORDER, epoch))
        )
        for step in range(first_step, (epoch + 1) * self.per_epoch):
            start = (step - epoch * self.per_epoch) * batch
            draws = torch.rand((batch, self.draws), generator=generator(self.seed, IMAGES, step))
            whole = (self.rounds, self.world, self.micro)
            mine = order[start : start + batch].view(whole)[:, self.rank]
            yield from zip(mine, draws.view(*whole, self.draws)[:, self.rank], strict=True)

    def layer_seeds(self, step: int, part: int) -> list[int]:
        """A seed for each image of a micro-batch, the one with this number in the step, for what layers draw: dropout, sampled boxes.

        They depend on the image's place in the whole batch alone, and so not on the number of processes or the size of micro-batches.
        """
        first = (part * self.world + self.rank) * self.micro
        return [seed_of(self.seed, LAYERS, step, first + i) for i in range(self.micro)]


def check_norms(model: nn.Module, micro: int, size: int) -> None:
    """Raise BadOption if a BatchNorm of the model would see one value of a channel, in training on `micro` images of `size` × `size`.

    That happens with one image whose last map is 1 × 1: a single value has no variance.
    """
    if micro > 1:
        return
    probe = copy.deepcopy(model).to("meta").train()
    try:
        probe(torch.empty(1, 3, size, size, device="meta"))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise BadOption(
            f"one image of {size} × {size} pixels gives BatchNorm a single value of each channel; take micro-batches of two images or more "
            "(--batch-size, --micro-batch, fewer processes), or larger images"
        ) from None
