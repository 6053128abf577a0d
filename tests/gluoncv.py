"""GluonCV's networks restated as nested lists of layers, so that the names in their state dicts are GluonCV's, and a writer of `.params`.

They follow resnet.py, mobilenet.py, inception.py, fcn.py and rcnn/ of gluoncv/model_zoo (56777561). The writer follows the format's
description.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import nms, roi_align

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
    path.write_bytes(params(arrays_of(network), version))


def arrays_of(network: nn.Module) -> dict[str, np.ndarray]:
    """The tensors of a network by MXNet's names."""
    norms = {name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    arrays = {}
    for key, tensor in network.state_dict().items():
        layer, _, last = key.rpartition(".")
        if last != "num_batches_tracked":
            last = {"weight": "gamma", "bias": "beta"}.get(last, last) if layer in norms else last
            arrays[f"{layer}.{last}"] = tensor.numpy()
    return arrays


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


def trunk(**options: object) -> nn.Module:
    """GluonCV's ResNet v1b-18: timm's names its layers in the same way."""
    return ResNet(BasicBlock, (2, 2, 2, 2), **options)


class Block(nn.Module):
    """The head of FCN."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        inner = inputs // 4
        norm = nn.BatchNorm2d(inner)
        self.block = nn.Sequential(conv(inputs, inner, 3), norm, nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(inner, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class FCN(nn.Module):
    """fcn.py and segbase.py on a ResNet v1c-18 of stride 8. BilinearResize2D of MXNet 1.9.1 aligns the corners."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        base = trunk(stem_type="deep", stem_width=32, output_stride=8)
        for part in ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4"):
            setattr(self, part, getattr(base, part))
        self.head, self.auxlayer = Block(512, classes), Block(256, classes)

    def forward(self, x: Tensor) -> list[Tensor]:
        c3 = self.layer3(self.layer2(self.layer1(F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1))))
        found = self.head(self.layer4(c3)), self.auxlayer(c3)
        return [F.interpolate(each, size=x.shape[2:], mode="bilinear", align_corners=True) for each in found]


class RPN(nn.Module):
    """rpn.py, anchor.py and proposal.py: the `most` best boxes of an image, decoded from the anchors around the middle of each cell."""

    def __init__(self, channels: int, most: int) -> None:
        super().__init__()
        self.most = most
        self.conv1 = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1), nn.ReLU())
        self.score, self.loc = nn.Conv2d(channels, 15, 1), nn.Conv2d(channels, 60, 1)
        self.anchor_generator = nn.Module()
        boxes = []
        for ratio in (0.5, 1, 2):
            width = np.round(np.sqrt(16 * 16 / ratio))
            for scale in (2, 4, 8, 16, 32):
                w, h = width * scale, np.round(width * ratio) * scale
                boxes.append([7.5 - (w - 1) / 2, 7.5 - (h - 1) / 2, 7.5 + (w - 1) / 2, 7.5 + (h - 1) / 2])
        y, x = np.mgrid[:128, :128] * 16
        anchors = np.stack([x, y, x, y], 2)[:, :, None] + np.array(boxes)
        self.anchor_generator.anchors = nn.Buffer(torch.from_numpy(anchors).float().reshape(1, 1, 128, 128, 60))

    def forward(self, x: Tensor, width: int, height: int) -> Tensor:
        y = self.conv1(x)
        scores, deltas = (layer(y)[0].permute(1, 2, 0) for layer in (self.score, self.loc))
        anchors = self.anchor_generator.anchors[0, 0, : x.shape[2], : x.shape[3]].reshape(-1, 4)
        boxes = decoded(deltas.reshape(-1, 4), anchors).clamp(min=0).minimum(torch.tensor([width, height] * 2))
        large = ((boxes[:, 2:] - boxes[:, :2] + 1) >= 16).all(1)
        boxes, scores = boxes[large], scores.reshape(-1)[large]
        return boxes[nms(boxes, scores, 0.7)[: self.most]]


def decoded(deltas: Tensor, boxes: Tensor, unit: tuple[float, float] = (1, 1)) -> Tensor:
    """NormalizedBoxCenterDecoder of coder.py: (…, 4) deltas, in units of the shift and of the scale, relative to boxes."""
    size = boxes[..., 2:] - boxes[..., :2]
    middle = boxes[..., :2] + size / 2 + deltas[..., :2] * unit[0] * size
    half = torch.exp(deltas[..., 2:] * unit[1]) * size / 2
    return torch.cat([middle - half, middle + half], -1)


class FasterRCNN(nn.Module):
    """rcnn.py and faster_rcnn.py on a ResNet v1b-18, up to the boxes of each class before their non-maximum suppression."""

    def __init__(self, classes: int, most: int) -> None:
        super().__init__()
        base = trunk()
        self.features = nn.Sequential(base.conv1, base.bn1, nn.ReLU(), nn.MaxPool2d(3, 2, 1), base.layer1, base.layer2, base.layer3)
        self.top_features = nn.Sequential(base.layer4)
        self.class_predictor, self.box_predictor = nn.Linear(512, classes + 1), nn.Linear(512, 4 * classes)
        self.rpn = RPN(256, most)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the (R, 4) proposals in a normalised image, (1, 3, H, W), and the (R, C) scores and (R, C, 4) boxes of the classes."""
        y = self.features(x)
        rois = self.rpn(y, x.shape[3], x.shape[2])
        top = self.top_features(roi_align(y, [rois], 14, 1 / 16, sampling_ratio=2)).mean((2, 3))
        scores = self.class_predictor(top).softmax(1)[:, 1:]
        return rois, scores, decoded(self.box_predictor(top).reshape(*scores.shape, 4), rois[:, None], (0.1, 0.2))
