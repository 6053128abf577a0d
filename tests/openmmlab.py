"""A plain restatement of OpenMMLab's ResNets, with the names of their tensors, to compare the zoo's networks with.

It follows mmpretrain/models/backbones/resnet.py of MMPretrain (ee7f2e88), and ResNetV1c of MMSegmentation for the stem of bare backbones.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class ConvModule(nn.Module):
    """MMCV's convolution with BatchNorm and ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Block(nn.Module):
    """A residual block. The style "caffe" has its stride in the first 1x1 convolution, "pytorch" in the 3x3."""

    def __init__(self, inputs: int, width: int, stride: int, *, deep: bool, style: str, avg_down: bool) -> None:
        super().__init__()
        outputs = 4 * width if deep else width
        if deep:
            first, second = (stride, 1) if style == "caffe" else (1, stride)
            self.conv1 = nn.Conv2d(inputs, width, 1, first, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, second, 1, bias=False)
            self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(outputs)
        else:
            self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            pool = [nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)] if avg_down and stride != 1 else []
            conv = nn.Conv2d(inputs, outputs, 1, 1 if pool else stride, bias=False)
            self.downsample = nn.Sequential(*pool, conv, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if hasattr(self, "conv3"):
            y = self.bn3(self.conv3(F.relu(y)))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """OpenMMLab's backbone. `stem` is "plain", "biased" (as converted from Caffe), "modules" (MMPretrain) or "layers" (MMSegmentation)."""

    def __init__(self, depth: int, *, stem: str, style: str, avg_down: bool) -> None:
        super().__init__()
        if stem == "modules":
            self.stem = nn.Sequential(ConvModule(3, 32, 2), ConvModule(32, 32, 1), ConvModule(32, 64, 1))
        elif stem == "layers":
            layers: list[nn.Module] = []
            for inputs, outputs, stride in ((3, 32, 2), (32, 32, 1), (32, 64, 1)):
                layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            self.stem = nn.Sequential(*layers)
        else:
            self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=stem == "biased")
            self.bn1 = nn.BatchNorm2d(64)
            self.relu = nn.ReLU()
        inputs, deep = 64, depth >= 50
        for i, blocks in enumerate(DEPTHS[depth]):
            width, stage = 64 << i, []
            for j in range(blocks):
                stride = 2 if i > 0 and j == 0 else 1
                stage.append(Block(inputs, width, stride, deep=deep, style=style, avg_down=avg_down))
                inputs = 4 * width if deep else width
            self.add_module(f"layer{i + 1}", nn.Sequential(*stage))
        self.features = inputs

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x) if hasattr(self, "stem") else self.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, 2, 1)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return x.mean((2, 3))


class Classifier(nn.Module):
    """MMPretrain's classifier: `backbone` and `head.fc`."""

    def __init__(self, backbone: ResNet) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Module()
        self.head.fc = nn.Linear(backbone.features, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.head.fc(self.backbone(x))


def classifier(depth: int, letter: str) -> Classifier:
    """Return the network of MMPretrain: B with the letter "" or "b", C or D."""
    stem = "modules" if letter in ("c", "d") else "plain"
    return Classifier(ResNet(depth, stem=stem, style="pytorch", avg_down=letter == "d"))


def bare(depth: int, letter: str) -> ResNet:
    """Return a backbone as in MMCV's list of pretrained ones: the original for the letter "", or C or D."""
    if letter == "":
        return ResNet(depth, stem="biased", style="caffe", avg_down=False)
    return ResNet(depth, stem="layers", style="pytorch", avg_down=letter == "d")
