"""Inception V3 (Szegedy et al., arXiv 1512.00567).

The published network has no padding in the convolutions of its stem and reductions, so the sides of its maps are not exact halvings (149,
147, 73, 71, 35, 17 and 8 at 299 pixels). `forward` computes these maps, because every published weight needs them. `forward_pyramid` pads
these layers, with the same weights, so that the strides are exact for detectors and segmenters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trickzoo.backbone import Backbone, FeatureInfo, Head, check_output_stride
from trickzoo.errors import BadOption


class ConvNorm(nn.Module):
    """Convolution, BatchNorm (eps 0.001) and ReLU. With `exact`, a 3x3 convolution without padding is padded by one pixel."""

    def __init__(self, inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, padding: Any = 0, **factory: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False, **factory)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001, **factory)
        self.relu = nn.ReLU(inplace=True)
        self.unpadded = padding == 0 and kernel == 3

    def forward(self, x: Tensor, exact: bool = False) -> Tensor:
        if exact and self.unpadded:
            x = F.pad(x, (1, 1, 1, 1))
        return self.relu(self.bn(self.conv(x)))


class MaxPool(nn.Module):
    """3x3 max pooling with stride 2, padded only if `exact`."""

    def forward(self, x: Tensor, exact: bool = False) -> Tensor:
        return F.max_pool2d(x, 3, 2, padding=1 if exact else 0)


class AvgPool(nn.Module):
    """3x3 average pooling with stride 1 and padding, whose zeros count in the average."""

    def forward(self, x: Tensor, exact: bool = False) -> Tensor:
        return F.avg_pool2d(x, 3, 1, padding=1)


class Chain(nn.Sequential):
    """A sequence of layers that passes `exact` to each of them."""

    def forward(self, x: Tensor, exact: bool = False) -> Tensor:
        for layer in self:
            x = layer(x, exact)
        return x


class Mixed(nn.Module):
    """Parallel branches whose outputs are concatenated along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor, exact: bool = False) -> Tensor:
        return torch.cat([branch(x, exact) for branch in self.branches], 1)


Conv = Callable[..., ConvNorm]


def mixed_a(conv: Conv, inputs: int, pool_features: int) -> Mixed:
    """Return a block of the 35x35 grid (figure 5 of the Inception paper)."""
    return Mixed(
        Chain(conv(inputs, 64, 1)),
        Chain(conv(inputs, 48, 1), conv(48, 64, 5, padding=2)),
        Chain(conv(inputs, 64, 1), conv(64, 96, 3, padding=1), conv(96, 96, 3, padding=1)),
        Chain(AvgPool(), conv(inputs, pool_features, 1)),
    )


def mixed_b(conv: Conv, inputs: int) -> Mixed:
    """Return the reduction to the 17x17 grid."""
    return Mixed(
        Chain(conv(inputs, 384, 3, stride=2)),
        Chain(conv(inputs, 64, 1), conv(64, 96, 3, padding=1), conv(96, 96, 3, stride=2)),
        MaxPool(),
    )


def mixed_c(conv: Conv, inputs: int, width: int) -> Mixed:
    """Return a block of the 17x17 grid, with factorised 7x7 convolutions (figure 6 of the Inception paper)."""
    row: dict[str, Any] = {"kernel": (1, 7), "padding": (0, 3)}
    column: dict[str, Any] = {"kernel": (7, 1), "padding": (3, 0)}
    return Mixed(
        Chain(conv(inputs, 192, 1)),
        Chain(conv(inputs, width, 1), conv(width, width, **row), conv(width, 192, **column)),
        Chain(
            conv(inputs, width, 1),
            conv(width, width, **column),
            conv(width, width, **row),
            conv(width, width, **column),
            conv(width, 192, **row),
        ),
        Chain(AvgPool(), conv(inputs, 192, 1)),
    )


def mixed_d(conv: Conv, inputs: int) -> Mixed:
    """Return the reduction to the 8x8 grid."""
    return Mixed(
        Chain(conv(inputs, 192, 1), conv(192, 320, 3, stride=2)),
        Chain(
            conv(inputs, 192, 1),
            conv(192, 192, kernel=(1, 7), padding=(0, 3)),
            conv(192, 192, kernel=(7, 1), padding=(3, 0)),
            conv(192, 192, 3, stride=2),
        ),
        MaxPool(),
    )


def mixed_e(conv: Conv, inputs: int) -> Mixed:
    """Return a block of the 8x8 grid, whose branches split into 1x3 and 3x1 convolutions (figure 7 of the Inception paper)."""

    def split(width: int) -> Mixed:
        return Mixed(conv(width, 384, kernel=(1, 3), padding=(0, 1)), conv(width, 384, kernel=(3, 1), padding=(1, 0)))

    return Mixed(
        Chain(conv(inputs, 320, 1)),
        Chain(conv(inputs, 384, 1), split(384)),
        Chain(conv(inputs, 448, 1), conv(448, 384, 3, padding=1), split(384)),
        Chain(AvgPool(), conv(inputs, 192, 1)),
    )


class AuxHead(nn.Module):
    """The auxiliary classifier on the 17x17 grid. The official implementation of the paper defines it and never uses it."""

    def __init__(self, conv: Conv, inputs: int, num_classes: int, **factory: Any) -> None:
        super().__init__()
        self.conv0 = conv(inputs, 128, 1)
        self.conv1 = conv(128, 768, 5)
        self.fc = nn.Linear(768, num_classes, **factory)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(self.conv0(F.avg_pool2d(x, 5, 3)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


SMALLEST = 75
"""The shortest side in pixels from which the layers without padding leave something for the next one."""


class InceptionV3(Backbone):
    """Inception V3.

    Args:
        aux_head: whether to build the auxiliary classifier too, which only `forward_with_aux` uses. It is left out if `num_classes` is 0.
        num_classes: number of outputs; 0 leaves out the classifier.
        in_chans: number of input channels.
        drop_rate: probability of dropout before the classifier. The official implementation trains with 0.5.
        output_stride: must be 32.
        device, dtype: device and type of the parameters.

    Raises BadOption for another output stride.
    """

    def __init__(
        self,
        *,
        aux_head: bool = False,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        output_stride: int = 32,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_output_stride(output_stride, (32,), "Inception V3")
        factory: dict[str, Any] = {"device": device, "dtype": dtype}

        def conv(inputs: int, outputs: int, kernel: Any, stride: int = 1, padding: Any = 0) -> ConvNorm:
            return ConvNorm(inputs, outputs, kernel, stride, padding, **factory)

        self.stem = Chain(conv(in_chans, 32, 3, stride=2), conv(32, 32, 3), conv(32, 64, 3, padding=1))
        self.stages = nn.ModuleList(
            [
                Chain(MaxPool(), conv(64, 80, 1), conv(80, 192, 3)),
                Chain(MaxPool(), mixed_a(conv, 192, 32), mixed_a(conv, 256, 64), mixed_a(conv, 288, 64)),
                Chain(mixed_b(conv, 288), *(mixed_c(conv, 768, width) for width in (128, 160, 160, 192))),
                Chain(mixed_d(conv, 768), mixed_e(conv, 1280), mixed_e(conv, 2048)),
            ]
        )
        self.feature_info = (
            FeatureInfo("stem", 64, 2),
            FeatureInfo("stages.0", 192, 4),
            FeatureInfo("stages.1", 288, 8),
            FeatureInfo("stages.2", 768, 16),
            FeatureInfo("stages.3", 2048, 32),
        )
        self.aux_head = AuxHead(conv, 768, num_classes, **factory) if aux_head and num_classes else None
        self.head = Head(2048, num_classes, drop_rate, **factory)
        self.init_weights()

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map as `Backbone.forward_features` does. Raises BadOption if a side is shorter than `SMALLEST`."""
        try:
            return super().forward_features(x)
        except RuntimeError:
            height, width = x.shape[-2:]
            if min(height, width) >= SMALLEST:
                raise
            raise BadOption(f"inception_v3 needs images of {SMALLEST} × {SMALLEST} pixels or more, not {width} × {height}") from None

    def forward_pyramid(self, x: Tensor) -> dict[str, Tensor]:
        """Return the feature maps as `Backbone.forward_pyramid` does, with padding in every layer, so that strides are exact."""
        x = self.stem(x, exact=True)
        maps = {"stem": x}
        for i, stage in enumerate(self.stages):
            x = maps[f"stages.{i}"] = stage(x, exact=True)
        return maps

    def forward_with_aux(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits and the auxiliary logits, each (N, num_classes), of (N, in_chans, H, W) images.

        H and W must be at least 299. Raises RuntimeError if the network was created without `aux_head=True`.
        """
        if self.aux_head is None:
            raise RuntimeError("this network was built without its auxiliary head; create it with aux_head=True")
        x = self.stem(x)
        for stage in self.stages[:3]:
            x = stage(x)
        return self.head(self.stages[3](x)), self.aux_head(x)

    def reset_head(self, num_classes: int) -> InceptionV3:
        """Replace the classifier and the auxiliary classifier by new ones with `num_classes` outputs, and return the network.

        With `num_classes=0` both are removed.
        """
        super().reset_head(num_classes)
        if num_classes == 0:
            self.aux_head = None
        elif self.aux_head is not None:
            old = self.aux_head.fc
            self.aux_head.fc = nn.Linear(old.in_features, num_classes, device=old.weight.device, dtype=old.weight.dtype)
        return self
