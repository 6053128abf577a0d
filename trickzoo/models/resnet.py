"""ResNet (He et al., arXiv 1512.03385) and its tweaks B, C, D (Bag of Tricks, arXiv 1812.01187, section 4)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trickzoo.backbone import Backbone, FeatureInfo, Head, check_output_stride, dilation_plan


@dataclass(frozen=True)
class Tweaks:
    """The paper's three changes to the original network, each on its own (figure 2)."""

    stride_in_3x3: bool = False
    """B: a down-sampling bottleneck strides in its 3x3 convolution; the original strides in the first 1x1 and drops 3/4 of its input."""
    deep_stem: bool = False
    """C: three 3x3 convolutions in place of the 7x7."""
    average_pool_shortcut: bool = False
    """D: a down-sampling shortcut is a 2x2 average pool and a 1x1 of stride 1, so nothing is dropped there either."""


ORIGINAL = Tweaks()
B = Tweaks(stride_in_3x3=True)
C = Tweaks(stride_in_3x3=True, deep_stem=True)
D = Tweaks(stride_in_3x3=True, deep_stem=True, average_pool_shortcut=True)


def conv3x3(inputs: int, outputs: int, stride: int = 1, dilation: int = 1, **factory: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False, **factory)


def conv1x1(inputs: int, outputs: int, stride: int = 1, bias: bool = False, **factory: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, stride, bias=bias, **factory)


def plain_stem(in_chans: int, outputs: int, **factory: Any) -> nn.Sequential:
    """7x7 of stride 2. The max pool that follows is `ResNet.pool`, so that the stem's map has stride 2."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_chans, outputs, 7, 2, padding=3, bias=False, **factory),
            bn1=nn.BatchNorm2d(outputs, **factory),
            relu1=nn.ReLU(inplace=True),
        )
    )


def deep_stem(in_chans: int, outputs: int, **factory: Any) -> nn.Sequential:
    """Three 3x3 of widths 32, 32, 64. Only the first has stride 2, whatever the paper's sentence seems to say."""
    half = outputs // 2
    return nn.Sequential(
        OrderedDict(
            conv1=conv3x3(in_chans, half, 2, **factory),
            bn1=nn.BatchNorm2d(half, **factory),
            relu1=nn.ReLU(inplace=True),
            conv2=conv3x3(half, half, **factory),
            bn2=nn.BatchNorm2d(half, **factory),
            relu2=nn.ReLU(inplace=True),
            conv3=conv3x3(half, outputs, **factory),
            bn3=nn.BatchNorm2d(outputs, **factory),
            relu3=nn.ReLU(inplace=True),
        )
    )


def make_shortcut(inputs: int, outputs: int, stride: int, tweaks: Tweaks, **factory: Any) -> nn.Module:
    """The projection of a block whose input and output differ, else the identity.

    A stage that is dilated in place of strided has stride 1 and hence no pool: the official rule (GluonCV `resnetv1b`), not timm's.
    """
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    if not tweaks.average_pool_shortcut:
        return nn.Sequential(conv1x1(inputs, outputs, stride, **factory), nn.BatchNorm2d(outputs, **factory))
    # The first slot is taken with stride 1 too, so that the keys of a D network are its own and the same at every output stride.
    pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()
    return nn.Sequential(pool, conv1x1(inputs, outputs, **factory), nn.BatchNorm2d(outputs, **factory))


class BasicBlock(nn.Module):
    """Two 3x3: the block of ResNet-18 and 34. Its stride is in a 3x3 already, so B changes nothing here."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, dilations: tuple[int, int], tweaks: Tweaks, **factory: Any) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, width, stride, dilations[0], **factory)
        self.bn1 = nn.BatchNorm2d(width, **factory)
        self.conv2 = conv3x3(width, width, 1, dilations[1], **factory)
        self.bn2 = nn.BatchNorm2d(width, **factory)
        self.shortcut = make_shortcut(inputs, width, stride, tweaks, **factory)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1: the block of ResNet-50, 101 and 152."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, dilations: tuple[int, int], tweaks: Tweaks, **factory: Any) -> None:
        super().__init__()
        outputs = width * self.expansion
        stride1, stride2 = (1, stride) if tweaks.stride_in_3x3 else (stride, 1)
        # The official original keeps a bias in its two 1x1, though a BatchNorm follows; B and later dropped it.
        bias = not tweaks.stride_in_3x3
        self.conv1 = conv1x1(inputs, width, stride1, bias, **factory)
        self.bn1 = nn.BatchNorm2d(width, **factory)
        self.conv2 = conv3x3(width, width, stride2, dilations[0], **factory)
        self.bn2 = nn.BatchNorm2d(width, **factory)
        self.conv3 = conv1x1(width, outputs, 1, bias, **factory)
        self.bn3 = nn.BatchNorm2d(outputs, **factory)
        self.shortcut = make_shortcut(inputs, outputs, stride, tweaks, **factory)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + self.shortcut(x))


class ResNet(Backbone):
    """Stem, max pool, four stages of residual blocks, linear head.

    Args:
        layers: blocks per stage.
        block: `BasicBlock` or `Bottleneck`.
        tweaks: which of the paper's tweaks it has: `ORIGINAL`, `B`, `C`, `D` or any other combination.
        num_classes, in_chans, drop_rate: classifier outputs (0: none), input channels, dropout before the classifier.
        output_stride: 32, or 16 or 8 with dilation in the last one or two stages.
    """

    def __init__(
        self,
        layers: Sequence[int],
        block: type[BasicBlock] | type[Bottleneck],
        *,
        tweaks: Tweaks = ORIGINAL,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        output_stride: int = 32,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_classes)
        check_output_stride(output_stride, (8, 16, 32), "ResNet")
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        make_stem = deep_stem if tweaks.deep_stem else plain_stem
        self.stem = make_stem(in_chans, 64, **factory)
        self.pool = nn.MaxPool2d(3, 2, padding=1)

        self.stages = nn.ModuleList()
        info, inputs, total = [FeatureInfo("stem", 64, 2)], 64, 4
        plan = dilation_plan((1, 2, 2, 2), output_stride, entering=4)
        for i, (depth, width, (stride, first, rest)) in enumerate(zip(layers, (64, 128, 256, 512), plan, strict=True)):
            blocks = []
            for j in range(depth):
                dilations = (first, rest) if j == 0 else (rest, rest)
                blocks.append(block(inputs, width, stride if j == 0 else 1, dilations, tweaks, **factory))
                inputs = width * block.expansion
            self.stages.append(nn.Sequential(*blocks))
            total *= stride
            info.append(FeatureInfo(f"stages.{i}", inputs, total))
        self.feature_info = tuple(info)
        self.head = Head(inputs, num_classes, drop_rate, **factory)
        self.init_weights()


LAYERS: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
LETTERS = {"": ORIGINAL, "b": B, "c": C, "d": D}


def resnet(depth: int, letter: str = "", **options: Any) -> ResNet:
    """ResNet of this depth with the tweaks up to the paper's `letter` ("", "b", "c" or "d"); `options` as of `ResNet`."""
    block, layers = LAYERS[depth]
    return ResNet(layers, block, tweaks=LETTERS[letter], **options)
