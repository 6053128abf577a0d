"""GluonCV's networks restated as nested lists of layers, so that the names in their state dicts are GluonCV's, and a writer of `.params`.

They follow resnet.py, mobilenet.py and inception.py of gluoncv/model_zoo (56777561). The writer follows the format's description.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

TYPES = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6, "bool": 7}


def array(values: np.ndarray, version: int = 2) -> bytes:
    """Return one array in the form of version 1, 2 or 3, or 0 for the form before them."""
    head = {0: b"", 1: struct.pack("<I", 0xF993FAC8), 2: struct.pack("<Ii", 0xF993FAC9, 0), 3: struct.pack("<Ii", 0xF993FACA, 0)}[version]
    sides = struct.pack(f"<I{values.ndim}{'q' if version else 'I'}", values.ndim, *values.shape)
    return head + sides + struct.pack("<iii", 1, 0, TYPES[values.dtype.name]) + values.tobytes()


def params(arrays: Mapping[str, np.ndarray], version: int = 2) -> bytes:
    """Return the content of a `.params` file."""
    content = struct.pack("<QQQ", 0x112, 0, len(arrays)) + b"".join(array(values, version) for values in arrays.values())
    content += struct.pack("<Q", len(arrays))
    return content + b"".join(struct.pack("<Q", len(name.encode())) + name.encode() for name in arrays)


def save(network: nn.Module, path: Path, version: int = 2) -> None:
    """Write the tensors of a network under MXNet's names."""
    norms = {name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    arrays = {}
    for key, tensor in network.state_dict().items():
        layer, _, last = key.rpartition(".")
        if last != "num_batches_tracked":
            last = {"weight": "gamma", "bias": "beta"}.get(last, last) if layer in norms else last
            arrays[f"{layer}.{last}"] = tensor.numpy()
    path.write_bytes(params(arrays, version))


class Layers(nn.Module):
    """The layout of GluonCV's ResNet v1, MobileNet and Inception: `features`, a list of layers, and `output`."""

    def __init__(self, *layers: nn.Module, features: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)
        self.output = nn.Linear(features, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.features(x).mean((2, 3)))


class Residual(nn.Module):
    def __init__(self, body: nn.Sequential, downsample: nn.Sequential | None) -> None:
        super().__init__()
        self.body, self.downsample = body, downsample

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + (x if self.downsample is None else self.downsample(x)))


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, **more: object) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, **({"bias": False} | more))


def resnet_v1(depth: int) -> Layers:
    """The original ResNet-18 or 50."""
    layers: list[nn.Module] = [conv(3, 64, 7, 2), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs, deep = 64, depth == 50
    for i, blocks in enumerate({18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[depth]):
        outputs, stage = (256 if deep else 64) << i, []
        for j in range(blocks):
            stride, width = 2 if i and not j else 1, outputs // 4
            if deep:
                body = [conv(inputs, width, 1, stride, bias=True), nn.BatchNorm2d(width), nn.ReLU()]
                body += [conv(width, width, 3), nn.BatchNorm2d(width), nn.ReLU(), conv(width, outputs, 1, bias=True)]
            else:
                body = [conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs), nn.ReLU(), conv(outputs, outputs, 3)]
            body.append(nn.BatchNorm2d(outputs))
            short = nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)) if inputs != outputs else None
            stage.append(Residual(nn.Sequential(*body), short))
            inputs = outputs
        layers.append(nn.Sequential(*stage))
    return Layers(*layers, features=inputs)


def mobilenet(multiplier: float) -> Layers:
    inputs = int(32 * multiplier)
    layers: list[nn.Module] = [conv(3, inputs, 3, 2), nn.BatchNorm2d(inputs), nn.ReLU()]
    channels = [64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    for width, stride in zip(channels, [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1], strict=True):
        outputs = int(width * multiplier)
        layers += [conv(inputs, inputs, 3, stride, groups=inputs), nn.BatchNorm2d(inputs), nn.ReLU()]
        layers += [conv(inputs, outputs, 1), nn.BatchNorm2d(outputs), nn.ReLU()]
        inputs = outputs
    return Layers(*layers, features=inputs)


class Concurrent(nn.Sequential):
    """Branches whose outputs are concatenated."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self], 1)


def basic(inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, pad: int | tuple[int, int] = 0) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, pad, bias=False), nn.BatchNorm2d(outputs, eps=0.001), nn.ReLU())


def branch(inputs: int, *settings: tuple, pool: nn.Module | None = None) -> nn.Sequential:
    layers: list[nn.Module] = [] if pool is None else [pool]
    for setting in settings:
        layers.append(basic(inputs, *setting))
        inputs = setting[0]
    return nn.Sequential(*layers)


def inception() -> Layers:
    average, reduce = nn.AvgPool2d(3, 1, 1), nn.MaxPool2d(3, 2)
    wide, tall = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))

    def a(n: int, pooled: int) -> Concurrent:
        double = branch(n, (64, 1), (96, 3, 1, 1), (96, 3, 1, 1))
        return Concurrent(branch(n, (64, 1)), branch(n, (48, 1), (64, 5, 1, 2)), double, branch(n, (pooled, 1), pool=average))

    def c(k: int) -> Concurrent:
        double = branch(768, (k, 1), (k, *tall), (k, *wide), (k, *tall), (192, *wide))
        single = branch(768, (k, 1), (k, *wide), (192, *tall))
        return Concurrent(branch(768, (192, 1)), single, double, branch(768, (192, 1), pool=average))

    def e(n: int) -> Concurrent:
        def split() -> Concurrent:
            return Concurrent(branch(384, (384, (1, 3), 1, (0, 1))), branch(384, (384, (3, 1), 1, (1, 0))))

        single = nn.Sequential(branch(n, (384, 1)), split())
        double = nn.Sequential(branch(n, (448, 1), (384, 3, 1, 1)), split())
        return Concurrent(branch(n, (320, 1)), single, double, branch(n, (192, 1), pool=average))

    b = Concurrent(branch(288, (384, 3, 2)), branch(288, (64, 1), (96, 3, 1, 1), (96, 3, 2)), branch(288, pool=reduce))
    tail = branch(768, (192, 1), (192, *wide), (192, *tall), (192, 3, 2))
    d = Concurrent(branch(768, (192, 1), (320, 3, 2)), tail, branch(768, pool=reduce))
    head = [basic(3, 32, 3, 2), basic(32, 32, 3), basic(32, 64, 3, 1, 1), reduce, basic(64, 80, 1), basic(80, 192, 3), reduce]
    return Layers(*head, a(192, 32), a(256, 64), a(288, 64), b, c(128), c(160), c(160), c(192), d, e(1280), e(2048), features=2048)
