"""The parts of Faster R-CNN that differ from torchvision's: anchors, heads, and the features of a backbone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from trickzoo.backbone import Backbone, FeatureInfo

ASPECT_RATIOS = (0.5, 1.0, 2.0)


def _full(tensor: Tensor) -> Tensor:
    """Convert a tensor to at least float32: near 600, bfloat16 has steps of 4 pixels."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class Anchors(AnchorGenerator):
    """torchvision's anchors at declared strides, in full precision.

    torchvision divides the side of the padded image by that of the map and rounds down, which is wrong for a pooled level with an odd
    number of cells.
    """

    def __init__(self, sizes: Sequence[Sequence[int]], strides: Sequence[int]) -> None:
        with torch.device("cpu"):  # they are no buffers, and would stay on the meta device
            super().__init__(tuple(map(tuple, sizes)), (ASPECT_RATIOS,) * len(sizes))
        self.strides = tuple(strides)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Return the (A, 4) anchors in pixels of the padded image, level after level. They are the same for every image."""
        like = feature_maps[0]
        self.set_cell_anchors(torch.promote_types(like.dtype, torch.float32), like.device)
        anchors = torch.cat(self.grid_anchors([feature.shape[-2:] for feature in feature_maps], [[stride] * 2 for stride in self.strides]))
        return [anchors] * len(image_list.image_sizes)


class FullPrecisionRPNHead(RPNHead):
    """torchvision's RPN head with outputs of at least float32, so that the proposals are computed in full precision."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        objectness, deltas = super().forward(x)
        return [_full(t) for t in objectness], [_full(t) for t in deltas]


class FullPrecisionPredictor(FastRCNNPredictor):
    """torchvision's classifier and box regressor with outputs of at least float32, initialised as in the released recipe."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__(in_channels, num_classes)
        for layer, std in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores, deltas = super().forward(x)
        return _full(scores), _full(deltas)


class StageHead(nn.Module):
    """The last stage of a ResNet as the head of C4: (R, C, 14, 14) → (R, channels)."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, x: Tensor) -> Tensor:
        return self.stage(x).mean((2, 3))


class Features(nn.Module):
    """The feature maps of some levels of a backbone, optionally combined by a feature pyramid network.

    Attributes:
        body: the backbone.
        fpn: the feature pyramid network, or an identity.
        levels: the levels of the backbone that RoIs are pooled from.
        strides: the stride of every output map. A feature pyramid has one map more than `levels`, for large anchors only.
        out_channels: the number of channels of every output map.
    """

    def __init__(self, body: Backbone, levels: Sequence[FeatureInfo], strides: Sequence[int], fpn: nn.Module, out_channels: int) -> None:
        super().__init__()
        self.body = body
        self.fpn = fpn
        self.levels = tuple(levels)
        self.strides = tuple(strides)
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.body.forward_pyramid(x)
        return self.fpn(OrderedDict((level.name, maps[level.name]) for level in self.levels))


def pyramid(body: Backbone, channels: int) -> Features:
    """Build a feature pyramid network on the maps of strides 4 to 32. Every second cell of the last map is a further map of stride 64."""
    levels = [info for info in body.feature_info if 4 <= info.stride <= 32]
    fpn = FeaturePyramidNetwork([info.channels for info in levels], channels, extra_blocks=LastLevelMaxPool())
    return Features(body, levels, [*(info.stride for info in levels), 2 * levels[-1].stride], fpn, channels)


def without_last_stage(body: Backbone) -> tuple[Features, nn.Module]:
    """Return the features of stride 16 of a ResNet, and its last stage, which is removed from the backbone."""
    stage = body.stages.pop(-1)
    body.feature_info = body.feature_info[:-1]
    level = body.feature_info[-1]
    return Features(body, [level], [level.stride], nn.Identity(), level.channels), stage
