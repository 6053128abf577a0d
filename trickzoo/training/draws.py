"""What layers draw at random for an image: from a seed of the image's own, so that it depends neither on the process nor on its neighbours.

Dropout and the choice of boxes to train on would else differ with the number of processes and the size of micro-batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

_seeds: ContextVar[Sequence[int] | None] = ContextVar("seeds", default=None)


@contextmanager
def of_images(seeds: Sequence[int]) -> Iterator[None]:
    """Within the block these are the seeds of the images of the batch, in its order."""
    before = _seeds.set(seeds)
    try:
        yield
    finally:
        _seeds.reset(before)


class ImageDropout(nn.Dropout):
    """Dropout whose mask of an image follows from the image's seed; torch's own outside of `of_images`.

    Args:
        p: probability of an element to become 0.
        stream: a number that other layers of the network do not have, so that their masks differ.
    """

    def __init__(self, p: float, stream: int) -> None:
        super().__init__(p)
        self.stream = stream

    def forward(self, x: Tensor) -> Tensor:
        """(N, …) → (N, …), each element 0 with probability `p`, else divided by 1 - p."""
        seeds = _seeds.get()
        if not self.training or seeds is None or self.p in (0, 1):
            return super().forward(x)
        generator = torch.Generator(x.device)
        draws = [torch.rand(x.shape[1:], device=x.device, generator=generator.manual_seed(seed + self.stream)) for seed in seeds]
        return x * (torch.stack(draws) >= self.p) / (1 - self.p)


def seed_dropout(network: nn.Module) -> None:
    """Replace, in place, each dropout of a network by one that draws from the images' seeds."""
    found = [(parent, name, layer) for parent in network.modules() for name, layer in parent.named_children() if type(layer) is nn.Dropout]
    for stream, (parent, name, layer) in enumerate(found):
        parent.add_module(name, ImageDropout(layer.p, stream))


Sampler = Callable[[list[Tensor]], tuple[list[Tensor], list[Tensor]]]
"""For each image the (n,) class of each of its boxes, 0 for background → masks of the chosen objects, and of the background."""


class ImageSampler:
    """torchvision's choice of the boxes to train on, drawn from the image's seed; outside of `of_images` from torch's generator.

    Args:
        sampler: `fg_bg_sampler` of torchvision's detectors, which draws from torch's generator.
        stream: a number that other samplers of the network do not have, so that their choices differ.
    """

    def __init__(self, sampler: Sampler, stream: int) -> None:
        self.sampler, self.stream = sampler, stream

    def __call__(self, matched: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """As `Sampler`. Leaves torch's generator seeded anew."""
        seeds = _seeds.get()
        if seeds is None:
            return self.sampler(matched)
        objects, background = [], []
        for seed, of_image in zip(seeds, matched, strict=True):
            torch.manual_seed(seed + self.stream)
            chosen, rest = self.sampler([of_image])
            objects += chosen
            background += rest
        return objects, background
