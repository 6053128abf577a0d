"""ResNet (He et al., arXiv 1512.03385), its tweaks B, C, D (Bag of Tricks, arXiv 1812.01187, section 4), and GluonCV's S."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trickzoo.backbone import Backbone, FeatureInfo, Head, check_output_stride, dilation_plan
from trickzoo.registry import BASIC


@dataclass(frozen=True)
class Tweaks:
    """The paper's three changes to the original network (figure 2), each of which can be made alone, and the width of the deep stem."""

    stride_in_3x3: bool = False
    """B: a down-sampling bottleneck has its stride in the 3x3 convolution. The original has it in the first 1x1, which ignores 3/4 of its
    input."""
    deep_stem: bool = False
    """C: three 3x3 convolutions replace the 7x7 convolution of the stem."""
    average_pool_shortcut: bool = False
    """D: a down-sampling shortcut is a 2x2 average pooling and a 1x1 convolution with stride 1, so that it uses all of its input."""
    stem_width: int = 32
    """Channels of the first two convolutions of the deep stem; the third has twice as many. GluonCV's S has 64."""


ORIGINAL = Tweaks()
B = Tweaks(stride_in_3x3=True)
C = Tweaks(stride_in_3x3=True, deep_stem=True)
D = Tweaks(stride_in_3x3=True, deep_stem=True, average_pool_shortcut=True)
S = Tweaks(stride_in_3x3=True, deep_stem=True, stem_width=64)


def conv3x3(inputs: int, outputs: int, stride: int = 1, dilation: int = 1, **factory: Any) -> nn.Conv2d:
    """Return a 3x3 convolution without bias, padded so that a stride of 1 keeps the size of the map."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False, **factory)


def conv1x1(inputs: int, outputs: int, stride: int = 1, bias: bool = False, **factory: Any) -> nn.Conv2d:
    """Return a 1x1 convolution."""
    return nn.Conv2d(inputs, outputs, 1, stride, bias=bias, **factory)


def plain_stem(in_chans: int, outputs: int, **factory: Any) -> nn.Sequential:
    """Return the original stem, a 7x7 convolution with stride 2.

    The max pooling after it is not part of the stem but `ResNet.pool`, so that the stem's feature map has stride 2.
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_chans, outputs, 7, 2, padding=3, bias=False, **factory),
            bn1=nn.BatchNorm2d(outputs, **factory),
            relu1=nn.ReLU(inplace=True),
        )
    )


def deep_stem(in_chans: int, width: int, **factory: Any) -> nn.Sequential:
    """Return the stem of tweak C: three 3x3 convolutions with `width`, `width` and `2 * width` channels.

    Only the first has stride 2, as in the official implementation (GluonCV `resnetv1b`); the paper's text is ambiguous.
    """
    return nn.Sequential(
        OrderedDict(
            conv1=conv3x3(in_chans, width, 2, **factory),
            bn1=nn.BatchNorm2d(width, **factory),
            relu1=nn.ReLU(inplace=True),
            conv2=conv3x3(width, width, **factory),
            bn2=nn.BatchNorm2d(width, **factory),
            relu2=nn.ReLU(inplace=True),
            conv3=conv3x3(width, 2 * width, **factory),
            bn3=nn.BatchNorm2d(2 * width, **factory),
            relu3=nn.ReLU(inplace=True),
        )
    )


def make_shortcut(inputs: int, outputs: int, stride: int, tweaks: Tweaks, **factory: Any) -> nn.Module:
    """Return the projection of a block whose input and output differ in shape, else the identity.

    A dilated stage has stride 1, so its shortcut does not pool, as in the official implementation (GluonCV `resnetv1b`). timm pools there.
    """
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    if not tweaks.average_pool_shortcut:
        return nn.Sequential(conv1x1(inputs, outputs, stride, **factory), nn.BatchNorm2d(outputs, **factory))
    # With stride 1 an identity takes the place of the pooling, so that the names of the tensors are the same at every output stride.
    pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()
    return nn.Sequential(pool, conv1x1(inputs, outputs, **factory), nn.BatchNorm2d(outputs, **factory))


class BasicBlock(nn.Module):
    """The block of ResNet-18 and 34: two 3x3 convolutions. Its stride is in a 3x3 convolution anyway, so tweak B does not change it."""

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
        y += self.shortcut(x)
        return self.relu(y)


class Bottleneck(nn.Module):
    """The block of ResNet-50, 101 and 152: a 1x1, a 3x3 and a 1x1 convolution."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, dilations: tuple[int, int], tweaks: Tweaks, **factory: Any) -> None:
        super().__init__()
        outputs = width * self.expansion
        stride1, stride2 = (1, stride) if tweaks.stride_in_3x3 else (stride, 1)
        # The 1x1 convolutions of the official original network have a bias, although BatchNorm follows. B, C and D have none.
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
        y += self.shortcut(x)
        return self.relu(y)


class ResNet(Backbone):
    """ResNet: a stem, max pooling, four stages of residual blocks, and a linear head.

    Args:
        layers: number of blocks in each stage.
        block: `BasicBlock` or `Bottleneck`.
        tweaks: the tweaks that the network has: `ORIGINAL`, `B`, `C`, `D`, `S` or any other combination.
        num_classes: number of outputs; 0 leaves out the classifier.
        in_chans: number of input channels.
        drop_rate: probability of dropout before the classifier.
        output_stride: 32, or 16 or 8 with dilation in the last one or two stages.
        device, dtype: device and type of the parameters.

    Raises BadOption for another output stride.
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
        super().__init__()
        check_output_stride(output_stride, (8, 16, 32), "ResNet")
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        inputs = 2 * tweaks.stem_width if tweaks.deep_stem else 64
        self.stem = deep_stem(in_chans, tweaks.stem_width, **factory) if tweaks.deep_stem else plain_stem(in_chans, inputs, **factory)
        self.pool = nn.MaxPool2d(3, 2, padding=1)

        self.stages = nn.ModuleList()
        info, total = [FeatureInfo("stem", inputs, 2)], 4
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


LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""The number of blocks in each stage, by depth."""
LETTERS = {"": ORIGINAL, "b": B, "c": C, "d": D, "s": S}
"""The tweaks by letter: the paper's B, C and D, and GluonCV's S."""


def resnet(depth: int, letter: str = "", **options: Any) -> ResNet:
    """Return a ResNet with a depth of `LAYERS` and the tweaks of a letter of `LETTERS`. `options` are further arguments of `ResNet`."""
    return ResNet(LAYERS[depth], BasicBlock if depth in BASIC else Bottleneck, tweaks=LETTERS[letter], **options)
