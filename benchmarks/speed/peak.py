"""How much arithmetic a network does, and how much the machine can do: the bound of every speed."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

ROUNDS = 5


def facts(network: nn.Module, size: int, dtype: torch.dtype, *, training: bool) -> dict[str, Any]:
    """Return the entries of a comparison that state the arithmetic of one image and the rate of a large matrix product.

    Args:
        network: a classifier on the CPU.
        size: side of its images in pixels.
        dtype: type of the numbers in the product.
        training: count the backward pass too.
    """
    images = torch.rand(2, 3, size, size)
    with FlopCounterMode(display=False) as counted, torch.set_grad_enabled(training):
        output = network(images)
        if training:
            output.sum().backward()
    return {"gflop_per_image": round(counted.get_total_flops() / 2e9, 3), "tflop_per_second_of_a_matrix_product": _matrix_product(dtype)}


def _matrix_product(dtype: torch.dtype) -> float:
    """Return the median rate of a product of two random square matrices, on the GPU if there is one, in TFLOP/s."""
    on_gpu = torch.cuda.is_available()
    side, times = (8192, 10) if on_gpu else (2048, 3)
    a, b = (torch.randn(side, side, device="cuda" if on_gpu else "cpu").to(dtype) for _ in range(2))
    taken = []
    for _ in range(1 + ROUNDS):
        start = time.perf_counter()
        for _ in range(times):
            a @ b
        if on_gpu:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return round(times * 2 * side**3 / statistics.median(taken[1:]) / 1e12, 3)
