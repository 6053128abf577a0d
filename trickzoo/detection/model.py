"""Faster R-CNN (Ren et al., arXiv 1506.01497) on torchvision's detection parts, for every backbone of the zoo.

It differs from torchvision's own builder: strides come from the backbone's `feature_info` and are never inferred from the size of an image;
boxes stay in full precision under autocast; parts are frozen by module; losses can be computed in evaluation mode.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from os import PathLike
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from trickzoo.backbone import Backbone, FeatureInfo
from trickzoo.errors import BadOption, nearest
from trickzoo.factory import Norms, Trainable, create_trunk, freeze_trunk
from trickzoo.models.resnet import ResNet
from trickzoo.recipes.finetune import DetectionRecipe
from trickzoo.training.draws import ImageSampler
from trickzoo.weights.record import Preprocessing

ASPECT_RATIOS = (0.5, 1.0, 2.0)

FPN: Mapping[str, Any] = MappingProxyType(
    {
        "min_size": 600,
        "max_size": 1000,
        "rpn_pre_nms_top_n_train": 2000,
        "rpn_pre_nms_top_n_test": 1000,
        "rpn_post_nms_top_n_train": 2000,
        "rpn_post_nms_top_n_test": 1000,
        "rpn_nms_thresh": 0.7,
        "rpn_fg_iou_thresh": 0.7,
        "rpn_bg_iou_thresh": 0.3,
        "rpn_batch_size_per_image": 256,
        "rpn_positive_fraction": 0.5,
        "rpn_score_thresh": 0.0,
        "rpn_min_size": 1e-3,
        "box_score_thresh": 0.05,
        "box_nms_thresh": 0.5,
        "box_detections_per_img": 100,
        "box_fg_iou_thresh": 0.5,
        "box_bg_iou_thresh": 0.5,
        "box_batch_size_per_image": 512,
        "box_positive_fraction": 0.25,
    }
)
"""Settings of the FPN detector: torchvision's, with the image size of the paper's VOC recipe. Sizes in pixels, `top_n` per level."""

C4: Mapping[str, Any] = MappingProxyType(
    {
        **FPN,
        "rpn_pre_nms_top_n_train": 12000,
        "rpn_pre_nms_top_n_test": 6000,
        "rpn_post_nms_top_n_test": 300,
        "rpn_min_size": 16,
        "box_score_thresh": 0.01,
        "box_nms_thresh": 0.3,
        "box_batch_size_per_image": 128,
    }
)
"""Settings of the C4 detector: those of the released VOC recipe of the paper's authors (GluonCV `faster_rcnn_resnet50_v1b_voc`)."""

COCO: Mapping[str, Any] = MappingProxyType({"min_size": 800, "max_size": 1333})
"""What the released COCO recipe changes for FPN: `faster_rcnn(…, num_classes=81, **COCO)`."""

C4_COCO: Mapping[str, Any] = MappingProxyType({**COCO, "rpn_post_nms_top_n_test": 1000, "rpn_min_size": 1, "box_nms_thresh": 0.5})
"""What the released COCO recipe changes for C4."""


def _full(tensor: Tensor) -> Tensor:
    """Convert a tensor to at least float32: near 600, bfloat16 has steps of 4 pixels."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class Anchors(AnchorGenerator):
    """torchvision's anchors at declared strides, in full precision.

    torchvision divides the side of the padded image by that of the map and rounds down, which is wrong for a pooled level with an odd
    number of cells.
    """

    def __init__(self, sizes: Sequence[Sequence[int]], strides: Sequence[int]) -> None:
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


class FasterRCNN(detection.FasterRCNN):
    """torchvision's Faster R-CNN, which can compute its losses in every mode.

    In training mode, `model(images, targets)` returns the losses. After `model.eval()`, `model(images)` returns a dict of boxes, labels and
    scores for each image. Images are (3, H, W) in 0…1, of any sizes. Targets are dicts of `boxes`, (n, 4) float, x1 y1 x2 y2 in pixels, (0,
    4) for no object, and `labels`, (n,) int64, 1 to num_classes - 1.

    Attributes:
        classes: the names of labels 1, 2, …; empty unless the detector comes from a file.
        recipe: the recipe of its training; None unless the detector comes from a file.
    """

    classes: tuple[str, ...] = ()
    recipe: DetectionRecipe | None = None

    @property
    def trunk(self) -> Backbone:
        """The backbone, which is part of the neck."""
        return self.backbone.body

    def losses(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Compute the four losses of training without changing the mode: after `model.eval()`, dropout is off and statistics stay fixed.

        Anchors and proposals are still sampled from torch's generator, so seed it for reproducible values. For validation, use
        `torch.no_grad()`.
        """
        # These three modules choose between losses and detections. The modules inside them keep their modes.
        switches = (self, self.rpn, self.roi_heads)
        modes = [module.training for module in switches]
        for module in switches:
            module.training = True
        try:
            return self(images, targets)
        finally:
            for module, mode in zip(switches, modes, strict=True):
                module.training = mode


def faster_rcnn(
    name: str,
    *,
    weights: bool | str | PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
    num_classes: int = 21,
    neck: Literal["fpn", "c4"] = "fpn",
    trainable_stages: Trainable | None = None,
    norms: Norms | None = None,
    anchor_sizes: Sequence[int] | None = None,
    fpn_channels: int = 256,
    representation_size: int = 1024,
    **settings: Any,
) -> FasterRCNN:
    """Build a Faster R-CNN on a backbone of the zoo; the defaults are those of the paper's released VOC recipe.

    Args:
        name: a model ("resnet50_d"), or one weight of it ("resnet50_d.gluon_in1k").
        weights: the weights of the backbone: True for its default weight, or a tag, a file or a hub reference as for `trickzoo.create`;
            None for random weights.
        options: options of the backbone's family, as for `trickzoo.create`, such as `{"activation": "relu6"}` for MobileNet v1.
        num_classes: the number of classes, including the background.
        neck: "fpn" is a feature pyramid of strides 4 to 32 with a pooled level of stride 64, and a head of two linear layers. "c4", for
            ResNets only, takes the features of stride 16, and the last stage as the head on RoIs of 14 × 14 cells.
        trainable_stages: how many of the last stages are trained: 0 for none, "all" for every stage and the stem. The default is 3, which
            freezes everything up to stride 4, and "all" without weights.
        norms: "frozen" freezes statistics, scale and shift of every BatchNorm of the backbone; "live" freezes only those in frozen parts.
            The default is "frozen", and "live" without weights.
        anchor_sizes: the sides of the square anchors in pixels. FPN has one for each level, by default 8 × its stride, 32 to 512; C4 has
            all of them on its only level, by default 32 to 512. Each anchor also has the aspect ratios 1:2 and 2:1.
        fpn_channels: the number of channels of every map of the feature pyramid.
        representation_size: the width of the two linear layers of FPN's head.
        **settings: any settings in `FPN` or `C4`, under torchvision's names, such as `min_size=400, max_size=600, box_nms_thresh=0.4`.

    Returns:
        The detector in training mode. It normalises images as the backbone's weights require.

    Raises:
        BadOption: for a value or a setting that does not exist; and what `trickzoo.create` raises.
    """
    if neck not in ("fpn", "c4"):
        raise BadOption(f'{name}: neck must be "fpn" or "c4", not "{neck}"')
    if num_classes < 2:
        raise BadOption(f"{name}: num_classes counts the background and must be 2 or more, not {num_classes}")
    defaults = FPN if neck == "fpn" else C4
    for option in settings:
        if option not in defaults:
            raise BadOption(f'{name}: a detector has no setting "{option}"{nearest(option, defaults)}')
    own = dict(defaults) | settings
    rpn_min_size = own.pop("rpn_min_size")

    body = create_trunk(name, weights, options)
    random, width = body.weights is None, body.num_features
    if neck == "c4" and not isinstance(body, ResNet):
        raise BadOption(f'{name}: neck="c4" is for ResNets; use neck="fpn"')
    if trainable_stages is None:
        trainable_stages = "all" if random else 3
    freeze_trunk(body, trainable_stages, norms or ("live" if random else "frozen"))
    sizes: list[tuple[int, ...]]
    if neck == "fpn":
        features, width = pyramid(body, fpn_channels), representation_size
        cells, head = 7, TwoMLPHead(features.out_channels * 7 * 7, width)
        sizes = [(8 * stride,) for stride in features.strides] if anchor_sizes is None else [(size,) for size in anchor_sizes]
    else:
        features, stage = without_last_stage(body)
        cells, head = 14, StageHead(stage)
        sizes = [tuple(anchor_sizes or (32, 64, 128, 256, 512))]
    if len(sizes) != len(features.strides):
        raise BadOption(f"{name}: anchor_sizes must have a size for each of the strides {features.strides}, not {len(sizes)} sizes")

    anchors = Anchors(sizes, features.strides)
    preprocessing = (body.weights.preprocessing if body.weights else None) or Preprocessing()
    model = FasterRCNN(
        features,
        rpn_anchor_generator=anchors,
        rpn_head=FullPrecisionRPNHead(features.out_channels, anchors.num_anchors_per_location()[0]),
        box_roi_pool=_roi_align(features.levels, cells),
        box_head=head,
        box_predictor=FullPrecisionPredictor(width, num_classes),
        **own,
    )
    model.rpn.min_size = rpn_min_size
    for stream, part in enumerate((model.rpn, model.roi_heads)):
        part.fg_bg_sampler = ImageSampler(part.fg_bg_sampler, stream)
    model.transform = GeneralizedRCNNTransform(own["min_size"], own["max_size"], list(preprocessing.mean), list(preprocessing.std))
    return model.train()


def _roi_align(levels: Sequence[FeatureInfo], cells: int) -> MultiScaleRoIAlign:
    """Build RoIAlign on these levels.

    It infers the scales from the sizes of the first maps that it gets, so it gets maps of exact sizes.
    """
    align = MultiScaleRoIAlign([level.name for level in levels], cells, sampling_ratio=2)
    side = max(level.stride for level in levels)
    maps = {level.name: torch.zeros(1, 1, side // level.stride, side // level.stride) for level in levels}
    align(maps, [torch.zeros(1, 4)], [(side, side)])
    return align
