"""A backbone as the trunk of a detector or a segmenter: weights, frozen stages, frozen statistics."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any, Literal

from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from trickzoo.backbone import Backbone
from trickzoo.errors import BadOption
from trickzoo.factory import create

Trainable = int | Literal["all"]
Norms = Literal["frozen", "live"]


def create_trunk(
    name: str, weights: bool | str | PathLike[str] | None, options: Mapping[str, Any] | None = None, *, output_stride: int = 32
) -> Backbone:
    """`create` without classifier.

    Args:
        name: a model, or one weight of it.
        weights: True for the default weight, a tag, a file or a hub reference; None or False for none.
        options: of the model's family, as `create` takes them.
        output_stride: as `create` takes it.
    """
    file = None if isinstance(weights, bool) else weights
    return create(name, pretrained=weights is True, weights=file, num_classes=0, output_stride=output_stride, **(options or {}))


def freeze_trunk(trunk: Backbone, trainable_stages: Trainable, norms: Norms) -> None:
    """Freeze, in place, all but the last stages.

    Args:
        trunk: a backbone.
        trainable_stages: how many of the last stages are trained: 0 for none, "all" for every stage and the stem.
        norms: "frozen" fixes statistics, scale and shift of every BatchNorm, "live" only those of frozen parts.

    Raises BadOption for a value that does not exist.
    """
    if norms not in ("frozen", "live"):
        raise BadOption(f'{trunk.name}: norms must be "frozen" or "live", not "{norms}"')
    stages = len(trunk.stages)
    frozen: list[nn.Module] = []
    if trainable_stages != "all":
        if not isinstance(trainable_stages, int) or not 0 <= trainable_stages <= stages:
            raise BadOption(f'{trunk.name}: trainable_stages must be 0 to {stages}, or "all" for the stem too, not {trainable_stages}')
        frozen = [trunk.stem, *trunk.stages[: stages - trainable_stages]]
    for module in [trunk] if norms == "frozen" else frozen:
        freeze_norms(module)
    trunk.freeze(*frozen)


def freeze_norms(module: nn.Module) -> nn.Module:
    """Replace, in place, every BatchNorm2d inside `module` by torchvision's FrozenBatchNorm2d with the same tensors and eps.

    Returns the module, or its replacement if it is a BatchNorm2d itself. What the network computes in evaluation stays.
    """
    if isinstance(module, nn.BatchNorm2d):
        frozen = FrozenBatchNorm2d(module.num_features, eps=module.eps).to(module.weight.device, module.weight.dtype)
        frozen.load_state_dict(module.state_dict())
        return frozen
    for name, child in module.named_children():
        module.add_module(name, freeze_norms(child))
    return module
