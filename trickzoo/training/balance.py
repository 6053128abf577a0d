"""Balancing classes of different sizes: an order in which each class occurs equally often, and weights for the loss."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def balanced_order(labels: NDArray[np.int64], generator: torch.Generator) -> Tensor:
    """Return (n,) indices of images in random order, among which the number of images of two classes differs by at most 1.

    Images of a small class are repeated, but none a second time before all have been taken once. Of a large class, some are left out.

    Args:
        labels: (n,) the class of each image, from 0.
        generator: source of the random numbers, on the CPU.
    """
    sizes = np.bincount(labels)
    present = np.flatnonzero(sizes)
    quota, rest = divmod(len(labels), len(present))
    larger = set(torch.randperm(len(present), generator=generator)[:rest].tolist())
    chosen = []
    for place, label in enumerate(present):
        mine = torch.from_numpy(np.flatnonzero(labels == label))
        wanted = quota + (place in larger)
        rounds = [mine[torch.randperm(len(mine), generator=generator)] for _ in range(-(-wanted // len(mine)))]
        chosen.append(torch.cat([mine[:0], *rounds])[:wanted])
    order = torch.cat(chosen)
    return order[torch.randperm(len(order), generator=generator)]


def class_weights(labels: NDArray[np.int64], classes: int) -> Tensor:
    """Return (K,) n / (K · n_k) for n images, K classes and n_k images of class k, so that the mean weight of an image is 1.

    Raises ZeroDivisionError if a class has no image.
    """
    sizes = np.bincount(labels, minlength=classes)
    if not sizes.all():
        raise ZeroDivisionError(f"class {int(np.argmin(sizes))} has no image")
    return torch.from_numpy((len(labels) / (classes * sizes)).astype(np.float32))
