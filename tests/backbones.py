"""Small backbones, their inputs, a training step, and what it changed."""

from __future__ import annotations

import functools
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import trickzoo
from trickzoo.backbone import Backbone, FeatureInfo, Head
from trickzoo.registry import Architecture

FAMILIES = ["resnet18_d", "mobilenet_v1_025", "inception_v3"]
"""A small network of each family. The ResNet is of type D, with the deep stem and pooling in its shortcuts."""


M = TypeVar("M", bound=nn.Module)


def shapes_only(model: M) -> M:
    """Let each BatchNorm of a network on the meta device only compare its channels with those of its input, and return the network.

    Torch computes a BatchNorm of that device in Python, which takes most of the time of a forward pass there.
    """

    def checked(x: Tensor, channels: int) -> Tensor:
        assert x.shape[1] == channels
        return x

    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.forward = functools.partial(checked, channels=module.num_features)  # type: ignore[method-assign]
    return model


@functools.cache
def shape_of(name: str, **options: Any) -> Backbone:
    """Return the network on the meta device, which computes shapes only. It is shared between tests, which must not change it."""
    return shapes_only(trickzoo.create(name, device="meta", **options)).eval()


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


class Plain(Backbone):
    """A network of a new family. Its row in the registry is `PLAIN`; no other module of the package knows it."""

    def __init__(self, *, num_classes: int, in_chans: int = 3, drop_rate: float = 0.0, output_stride: int = 32, **factory: Any) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_chans, 4, 3, 2, padding=1, **factory), nn.ReLU())
        self.stages = nn.ModuleList(nn.Conv2d(4, 4, 3, 2, padding=1, **factory) for _ in range(4))
        self.feature_info = (FeatureInfo("stem", 4, 2), *(FeatureInfo(f"stages.{i}", 4, 4 * 2**i) for i in range(4)))
        self.head = Head(4, num_classes, drop_rate, **factory)
        self.init_weights()


PLAIN = Architecture("plain", "tests.backbones:Plain", "plain", "a stem and four convolutions", 5_704, 1_000, output_strides=(32,))
