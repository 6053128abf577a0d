"""Small backbones, their inputs, a training step, and what it changed."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import trickzoo
from trickzoo.backbone import Backbone

FAMILIES = ["resnet18_d", "mobilenet_v1_025", "inception_v3"]
"""A small network of each family. The ResNet is of type D, with the deep stem and pooling in its shortcuts."""


@functools.cache
def shape_of(name: str, **options: Any) -> Backbone:
    """Return the network on the meta device, which computes shapes only. It is shared between tests, which must not change it."""
    return trickzoo.create(name, device="meta", **options).eval()


def empty(height: int, width: int | None = None) -> Tensor:
    return torch.empty(1, 3, height, width or height, device="meta")


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of every parameter and buffer."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def differing(before: dict[str, Tensor], module: nn.Module) -> set[str]:
    """Return the names of the tensors that are no longer bit-identical."""
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


def input_for(name: str, batch: int = 2, channels: int = 3) -> Tensor:
    """Return a small random batch. The layers of Inception without padding need at least 75 pixels."""
    return torch.randn(batch, channels, 75, 80) if name == "inception_v3" else torch.randn(batch, channels, 33, 40)


def train_a_step(model: Backbone) -> None:
    """Make a training step with weight decay, which changes every parameter with a gradient and every live BatchNorm statistic."""
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=0.1)
    F.cross_entropy(model(input_for(model.name)), torch.tensor([0, 1])).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.add_(1e-3)
    optimiser.step()
