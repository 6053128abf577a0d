"""Random draws of layers, made from a separate seed for each image.

The dropout mask of an image, and the choice of its boxes to train on, therefore depend neither on the number of processes nor on the size
of micro-batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

_seeds: ContextVar[Sequence[int] | None] = ContextVar("seeds", default=None)


@contextmanager
def image_seeds(seeds: Sequence[int]) -> Iterator[None]:
    """Within the block, layers draw from these seeds: one for each image of the micro-batch, in its order."""
    before = _seeds.set(seeds)
    try:
        yield
    finally:
        _seeds.reset(before)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed torch's global generators of the CPU and of a device.

    `torch.manual_seed` also seeds those of devices that are not in use, which takes a millisecond or more.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


class ImageDropout(nn.Dropout):
    """Dropout that draws the mask of each image from the seed of that image. Outside of an `image_seeds` block it is torch's dropout.

    Args:
        p: probability that an element is set to 0.
        stream: a number that is unique among the dropout layers of the network, so that their masks differ.
    """

    def __init__(self, p: float, stream: int) -> None:
        super().__init__(p)
        self.stream = stream

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, …) to (N, …): each element is set to 0 with probability `p`, and divided by 1 - p otherwise."""
        seeds = _seeds.get()
        if not self.training or seeds is None or self.p in (0, 1):
            return super().forward(x)
        generator = torch.Generator(x.device)
        draws = [torch.rand(x.shape[1:], device=x.device, generator=generator.manual_seed(seed + self.stream)) for seed in seeds]
        return x * (torch.stack(draws) >= self.p) / (1 - self.p)


def seed_dropout(network: nn.Module) -> None:
    """Replace, in place, each `nn.Dropout` of a network by an `ImageDropout`."""
    found = [(parent, name, layer) for parent in network.modules() for name, layer in parent.named_children() if type(layer) is nn.Dropout]
    for stream, (parent, name, layer) in enumerate(found):
        parent.add_module(name, ImageDropout(layer.p, stream))


Sampler = Callable[[list[Tensor]], tuple[list[Tensor], list[Tensor]]]
"""Maps, for each image, the (n,) classes of its boxes (0 is background) to two (n,) masks: the chosen objects and the chosen background."""


class ImageSampler:
    """Choice of the boxes to train on, by torchvision's sampler, drawn from the seed of each image.

    Outside of an `image_seeds` block it draws from torch's global generator, as torchvision does.

    Args:
        sampler: `fg_bg_sampler` of a torchvision detector, which draws from torch's global generator.
        stream: a number that is unique among the samplers of the network, so that their choices differ.
    """

    def __init__(self, sampler: Sampler, stream: int) -> None:
        self.sampler, self.stream = sampler, stream

    def __call__(self, matched: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Choose boxes of each image.

        Args:
            matched: for each image, the (n,) classes of its boxes; 0 is background.

        Returns the (n,) masks of the chosen objects and those of the chosen background, one for each image. Torch's global generator has
        another seed afterwards.
        """
        seeds = _seeds.get()
        if seeds is None:
            return self.sampler(matched)
        objects, background = [], []
        for seed, of_image in zip(seeds, matched, strict=True):
            seed_generators(seed + self.stream, of_image.device)
            chosen, rest = self.sampler([of_image])
            objects += chosen
            background += rest
        return objects, background
