"""MobileNet v1 (Howard et al., arXiv 1704.04861) as the Bag of Tricks paper trains it: ReLU, no bias, no dropout."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trickzoo.backbone import Backbone, FeatureInfo, Head, check_output_stride, dilation_plan
from trickzoo.errors import check_choice

# Output channels and stride of each unit, by stage. Each stage but the first begins with a unit of stride 2.
STAGES: tuple[tuple[tuple[int, int], ...], ...] = (
    ((64, 1),),
    ((128, 2), (128, 1)),
    ((256, 2), (256, 1)),
    ((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    ((1024, 2), (1024, 1)),
)
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6}


class Unit(nn.Module):
    """A depthwise 3x3 convolution and a pointwise 1x1 convolution, each followed by BatchNorm and activation."""

    def __init__(self, inputs: int, outputs: int, stride: int, dilation: int, activation: type[nn.Module], **factory: Any) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, padding=dilation, dilation=dilation, groups=inputs, bias=False, **factory)
        self.bn1 = nn.BatchNorm2d(inputs, **factory)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False, **factory)
        self.bn2 = nn.BatchNorm2d(outputs, **factory)
        self.act = activation(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn1(self.depthwise(x)))
        return self.act(self.bn2(self.pointwise(x)))


def _convolution(inputs: int, outputs: int, kernel: int, stride: int, activation: type[nn.Module], **factory: Any) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False, **factory),
            bn=nn.BatchNorm2d(outputs, **factory),
            act=activation(inplace=True),
        )
    )


class MobileNetV1(Backbone):
    """MobileNet v1: a 3x3 stem, thirteen depthwise-separable units in five stages, and a linear head.

    Args:
        multiplier: factor by which the number of channels of every layer is multiplied (rounded down).
        head_conv: append a 1x1 convolution with BatchNorm and activation to the last stage, as in timm's mobilenetv1_100h.
        activation: "relu" as in the official implementation, or "relu6" for weights that were trained with it.
        num_classes: number of outputs; 0 leaves out the classifier.
        in_chans: number of input channels.
        drop_rate: probability of dropout before the classifier.
        output_stride: 32, or 16 or 8 with dilation in the last one or two stages.
        device, dtype: device and type of the parameters.

    Raises BadOption for another activation or output stride.
    """

    def __init__(
        self,
        multiplier: float = 1.0,
        *,
        head_conv: bool = False,
        activation: Literal["relu", "relu6"] = "relu",
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        output_stride: int = 32,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_output_stride(output_stride, (8, 16, 32), "MobileNet v1")
        check_choice("MobileNet v1: activation", activation, ACTIVATIONS)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        act = ACTIVATIONS[activation]
        self.activation = activation
        inputs = int(32 * multiplier)
        self.stem = _convolution(in_chans, inputs, 3, 2, act, **factory)
        self.stages = nn.ModuleList()
        info, total = [FeatureInfo("stem", inputs, 2)], 2
        plan = dilation_plan(tuple(units[0][1] for units in STAGES), output_stride, entering=2)
        for i, (units, (stride, first, rest)) in enumerate(zip(STAGES, plan, strict=True)):
            stage: list[nn.Module] = []
            for j, (channels, _) in enumerate(units):
                outputs = int(channels * multiplier)
                stage.append(Unit(inputs, outputs, stride if j == 0 else 1, first if j == 0 else rest, act, **factory))
                inputs = outputs
            if head_conv and i == len(STAGES) - 1:
                stage.append(_convolution(inputs, inputs, 1, 1, act, **factory))
            self.stages.append(nn.Sequential(*stage))
            total *= stride
            info.append(FeatureInfo(f"stages.{i}", inputs, total))
        self.feature_info = tuple(info)
        self.head = Head(inputs, num_classes, drop_rate, **factory)
        self.init_weights()
