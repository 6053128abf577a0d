"""Segmenters: a dilated backbone, a head, and an auxiliary head, as in the paper's implementation of FCN."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from os import PathLike
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import Tensor
from torch.nn import functional as F

from trickzoo import registry
from trickzoo.backbone import Backbone
from trickzoo.errors import BadOption
from trickzoo.factory import Norms, Trainable, create_trunk, freeze_trunk
from trickzoo.foreign import OwnNames
from trickzoo.recipes.finetune import SegmentationRecipe
from trickzoo.segmentation.heads import FCNHead, find_head
from trickzoo.training.draws import seed_dropout

MAX_CLASSES = 256
"""The largest number of classes, because predicted masks have 8 bits for each pixel."""


class Logits(NamedTuple):
    """The outputs of a segmenter in training mode, each (N, num_classes, H, W). `aux` is None without an auxiliary head."""

    main: Tensor
    aux: Tensor | None


class Segmenter(OwnNames):
    """A backbone, a head on its last feature map, and an auxiliary FCN head on the map of the stage before.

    Attributes:
        head_name: the name of the head in `heads.HEADS`.
        classes: the names of classes 0, 1, …; empty unless the network comes from a file.
        recipe: the recipe of its training; None unless the network comes from a file.
    """

    _parts = MappingProxyType({"classifier": "this part is head, and head[-1] gives the scores", "aux_classifier": "this part is aux_head"})
    classes: tuple[str, ...] = ()
    recipe: SegmentationRecipe | None = None

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        head: str = "fcn",
        aux: bool = True,
        drop_rate: float = 0.1,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        before, last = backbone.feature_info[-2:]
        self.backbone = backbone
        self.align_corners = align_corners
        self.head_name = head
        self.head = find_head(head)(last.channels, num_classes, drop_rate)
        self.aux_head = FCNHead(before.channels, num_classes, drop_rate) if aux else None
        seed_dropout(self)

    @property
    def trunk(self) -> Backbone:
        """The backbone."""
        return self.backbone

    @property
    def num_classes(self) -> int:
        """The number of classes, 0 without convolutions in the head. It is right even if the head or its last layer was replaced."""
        return [0, *(n for module in self.head.modules() if (n := getattr(module, "out_channels", 0)))][-1]

    @property
    def class_layers(self) -> tuple[str, ...]:
        """Names of the layers whose outputs depend on the classes: the last layer of each head."""
        heads = {"head": self.head, "aux_head": self.aux_head}
        return tuple(f"{name}.{[*head.named_children()][-1][0]}" for name, head in heads.items() if head is not None)

    @property
    def short(self) -> int:
        """The short side in pixels that images are resized to; 0 for images in the files' sizes, as without a recipe."""
        return (self.recipe and self.recipe.short) or 0

    def forward(self, x: Tensor) -> Tensor | Logits:
        """Return (N, num_classes, H, W) logits of (N, 3, H, W) images, or `Logits` in training mode.

        Images may have any size, and are normalised as the backbone's weights require.
        """
        maps = self.backbone.forward_pyramid(x)
        before, last = self.backbone.feature_info[-2:]
        main = self._resize(self.head(maps[last.name]), x)
        if not self.training:
            return main
        return Logits(main, None if self.aux_head is None else self._resize(self.aux_head(maps[before.name]), x))

    def _resize(self, logits: Tensor, x: Tensor) -> Tensor:
        return F.interpolate(logits, size=x.shape[-2:], mode="bilinear", align_corners=self.align_corners)


def segmenter(
    name: str,
    *,
    head: str = "fcn",
    weights: bool | str | PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
    num_classes: int = 21,
    output_stride: int | None = None,
    aux: bool = True,
    drop_rate: float = 0.1,
    align_corners: bool = False,
    trainable_stages: Trainable = "all",
    norms: Norms = "live",
) -> Segmenter:
    """Build a segmenter on a backbone of the zoo; the defaults are those of the paper's released recipe for VOC.

    Args:
        name: a model ("resnet50_d"), or one weight of it ("resnet50_d.gluon_in1k").
        head: the name of the head, one of `trickzoo.segmentation.heads.HEADS`.
        weights: the weights of the backbone: True for its default weight, or a tag, a file or a hub reference as for `trickzoo.create`;
            None for random weights.
        options: options of the backbone's family, as for `trickzoo.create`, such as `{"activation": "relu6"}` for MobileNet v1.
        num_classes: the number of classes, including the background if the data set has one.
        output_stride: 8, 16 or 32; Inception V3 has 32 only. The default is the smallest that the backbone has.
        aux: whether there is an auxiliary head on the stage before the last, which is used in training only.
        drop_rate: the dropout rate before the last convolution of each head.
        align_corners: whether the bilinear enlargement of the logits puts the centres of the corner cells on the corner pixels, as GluonCV
            does. Otherwise the borders of the feature map are put on the borders of the image.
        trainable_stages: how many of the last stages are trained: 0 for none, "all" (the default) for every stage and the stem.
        norms: "frozen" freezes statistics, scale and shift of every BatchNorm of the backbone; "live" (the default) freezes only those in
            frozen parts.

    Returns:
        The network in training mode: `model(x)` returns `Logits(main, aux)`, and after `model.eval()` the (N, num_classes, H, W) logits.

    Raises:
        UnknownName, BadOption: for a head or a value that does not exist; and what `trickzoo.create` raises.
    """
    if not isinstance(num_classes, Integral) or isinstance(num_classes, bool) or num_classes < 1:
        raise BadOption(f"{name}: num_classes must be 1 or more, not {num_classes!r}")
    if num_classes > MAX_CLASSES:
        raise BadOption(f"{name}: num_classes must be {MAX_CLASSES} or less, not {num_classes}: a mask has 8 bits for each pixel")
    if not 0 <= drop_rate <= 1:
        raise BadOption(f"{name}: drop_rate cannot be {drop_rate}")
    if output_stride is None:
        output_stride = min(registry.find(name.partition(".")[0]).output_strides)
    trunk = create_trunk(name, weights, options, output_stride=output_stride)
    freeze_trunk(trunk, trainable_stages, norms)
    return Segmenter(trunk, num_classes, head=head, aux=aux, drop_rate=drop_rate, align_corners=align_corners).train()


def fcn(name: str, **settings: Any) -> Segmenter:
    """Build an FCN (Long et al., arXiv 1411.4038) on a backbone of the zoo: `segmenter` with the head "fcn" and the same settings."""
    return segmenter(name, **{"head": "fcn", **settings})
