"""Faster R-CNN (Ren et al., arXiv 1506.01497) on torchvision's detection parts, for every backbone of the zoo.

It differs from torchvision's own builder: strides come from the backbone's `feature_info` and are never inferred from the size of an image;
boxes stay in full precision under autocast; parts are frozen by module; losses can be computed in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from os import PathLike
from types import MappingProxyType
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torchvision.models import detection
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from trickzoo.backbone import Backbone
from trickzoo.detection.parts import (
    Anchors,
    FullPrecisionPredictor,
    FullPrecisionRPNHead,
    StageHead,
    pyramid,
    without_last_stage,
)
from trickzoo.detection.pooling import RoIAlign
from trickzoo.detection.targets import checked
from trickzoo.errors import BadOption, check_choice, nearest
from trickzoo.factory import Norms, Trainable, create_trunk, freeze_trunk
from trickzoo.foreign import check_tensor_names
from trickzoo.models.resnet import ResNet
from trickzoo.recipes.finetune import DetectionRecipe
from trickzoo.training.draws import ImageSampler
from trickzoo.weights.record import Preprocessing

Neck = Literal["fpn", "c4"]
"""How a detector uses the maps of its backbone."""

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
"""Settings of the FPN detector: torchvision's, with the image size of the paper's VOC recipe.

Sizes are in pixels, and `top_n` counts boxes of a level."""

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

INSTEAD = {
    "trainable_backbone_layers": "trainable_stages is the number of last stages that are trained",
    **dict.fromkeys(("pretrained", "weights_backbone", "pretrained_backbone"), "weights=True loads the default weight of the backbone"),
}
"""What takes the place of options of torchvision's builders."""


MOST = 2.0
"""The largest value of an image in 0…1 that is accepted; noise that a training run adds may exceed 1."""


class FasterRCNN(detection.FasterRCNN):
    """torchvision's Faster R-CNN, which can compute its losses in every mode.

    In training mode, `model(images, targets)` returns the losses. After `model.eval()`, `model(images)` returns a dict of boxes, labels and
    scores for each image. Images are (3, H, W) float in 0…1, of any sizes. Each target is a dict of `boxes`, (n, 4) float x0, y0, x1, y1 in
    pixels, and `labels`, (n,) integers from 1 to num_classes - 1; n is 0 for an image without objects.

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

    @property
    def class_layers(self) -> tuple[str, ...]:
        """Names of the layers whose outputs depend on the classes."""
        return ("roi_heads.box_predictor",)

    @property
    def sides(self) -> tuple[int, int]:
        """The short side that images are resized to in evaluation, and the limit of the long side, in pixels."""
        return self.transform.min_size[-1], self.transform.max_size  # in training, torchvision draws one of several short sides

    def class_name(self, label: int) -> str:
        """Return the name of the class of a label, or the label itself if the names are not known."""
        return self.classes[label - 1] if self.classes else str(label)

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Return losses or detections, as the class describes.

        Raises BadOption without images, for images in 0…255, for targets that do not fit the images or the classes, and in training mode
        without targets.
        """
        if len(images) == 0:
            raise BadOption("a detector needs one image at least, and the list of images is empty")
        _check_images(images)
        if targets is not None:
            targets = checked(images, targets, number_of_labels(self))
        elif self.training:
            raise BadOption("in training mode a detector needs targets; call its eval() before it detects")
        return super().forward(images, targets)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load tensors under the names of `state_dict()`, as every module does. Raises BadCheckpoint if none has such a name."""
        check_tensor_names(self, state_dict)
        return super().load_state_dict(state_dict, strict, assign)

    def losses(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the four losses of training, by torchvision's names, without a change of the mode.

        After `model.eval()`, dropout is therefore off, and the statistics of BatchNorm stay fixed.
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


def number_of_labels(detector: detection.FasterRCNN) -> int | None:
    """Return the number of labels, with the background, or None if the box predictor is one of the user's own without `cls_score`."""
    found = getattr(getattr(detector.roi_heads.box_predictor, "cls_score", None), "out_features", None)
    return found if isinstance(found, int) else None


def _check_images(images: Sequence[Tensor]) -> None:
    """Raise BadOption for images that are not tensors or not in 0…1. Torchvision's own message says what is wrong with empty ones."""
    for image in images:
        if not isinstance(image, Tensor):
            raise BadOption(
                f"a detector takes (3, H, W) tensors in 0…1, not {type(image).__name__}; torchvision.transforms.functional.to_tensor "
                "makes one of an image of Pillow or an RGB array"
            )
    if not all(image.numel() for image in images):
        return
    most = float(torch.stack([image.detach().amax().float() for image in images]).max())  # one value is read, as a GPU waits for each
    if most > MOST:
        raise BadOption(f"a detector takes images in 0…1, and the largest value is {most:g}; divide pixels in 0…255 by 255")


def faster_rcnn(
    name: str,
    *,
    weights: bool | str | PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
    num_classes: int = 21,
    neck: Neck = "fpn",
    trainable_stages: Trainable | None = None,
    norms: Norms | None = None,
    anchor_sizes: Sequence[int] | None = None,
    fpn_channels: int = 256,
    representation_size: int = 1024,
    **settings: Any,
) -> FasterRCNN:
    """Build a Faster R-CNN on a backbone of the zoo. The default settings are `FPN` or `C4`, depending on the neck.

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
    check_choice(f"{name}: neck", neck, get_args(Neck))
    if not isinstance(num_classes, Integral) or num_classes < 2:
        raise BadOption(f"{name}: num_classes counts the background and must be 2 or more, not {num_classes!r}")
    defaults = FPN if neck == "fpn" else C4
    for option in settings:
        if option not in defaults:
            near = f"; {INSTEAD[option]}" if option in INSTEAD else nearest(option, defaults)
            raise BadOption(f'{name}: a detector has no setting "{option}"{near}')
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
        box_roi_pool=RoIAlign(features.levels, cells),
        box_head=head,
        box_predictor=FullPrecisionPredictor(width, num_classes),
        **own,
    )
    model.rpn.min_size = rpn_min_size
    for stream, part in enumerate((model.rpn, model.roi_heads)):
        part.fg_bg_sampler = ImageSampler(part.fg_bg_sampler, stream)
    model.transform = GeneralizedRCNNTransform(own["min_size"], own["max_size"], list(preprocessing.mean), list(preprocessing.std))
    return model.train()
