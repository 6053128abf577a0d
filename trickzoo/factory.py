"""`create`: a name becomes a model, with weights or without."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any, Literal

import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from trickzoo import registry
from trickzoo.backbone import Backbone
from trickzoo.errors import BadOption, nearest
from trickzoo.registry import Architecture
from trickzoo.weights import load, manifest, opened


def create(
    name: str,
    *,
    pretrained: bool | str = False,
    weights: str | PathLike[str] | None = None,
    num_classes: int | None = None,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    output_stride: int = 32,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Backbone:
    """Create a backbone of the zoo.

    Args:
        name: a model ("resnet50_d"), or one weight of it ("resnet50_d.gluon_in1k"), which is then loaded.
        pretrained: True takes the model's default weight, a string the weight of that tag.
        weights: a tag, the path of a file (ours, timm's or torchvision's layout; safetensors or pickled tensors), or a hub reference
            "hf-hub:user/name[@revision]". Instead of `pretrained`.
        num_classes: outputs; 0 for none. By default what the weights have, or 1000. Another number than the weights' gives a new
            classifier, and the log says so.
        in_chans: input channels. Weights for three are adapted: summed for one, else repeated and scaled.
        drop_rate: dropout before the classifier.
        output_stride: 32, or 16 or 8 with dilation (not Inception).
        device: where the tensors are; torch's default device by default.
        dtype: of the parameters; torch's default dtype by default, whatever the file has.
        **options: of one family: `activation` of MobileNet v1, `aux_head` of Inception V3.

    Returns:
        The network in evaluation mode if weights were loaded, else in training mode. `.weights` says where they came from.

    Raises:
        UnknownName, BadOption, WeightsUnavailable, DigestMismatch, BadCheckpoint: with one line that says what to do.
    """
    reference = str(weights) if weights is not None else pretrained if isinstance(pretrained, str) else None
    if weights is not None and pretrained:
        raise BadOption("give either pretrained or weights, not both")
    if "." in name:
        record = manifest.find(name)
        if reference is not None and reference not in (record.tag, record.name):
            raise BadOption(f"{name} names a weight already; to load {reference}, create {record.model}")
        name, reference = record.model, record.tag
    for option, value, right in (
        ("num_classes", num_classes, num_classes is None or num_classes >= 0),
        ("in_chans", in_chans, in_chans >= 1),
        ("drop_rate", drop_rate, 0 <= drop_rate <= 1),
    ):
        if not right:
            raise BadOption(f"{name}: {option} cannot be {value}")
    architecture = registry.find(name)
    if pretrained is True and reference is None:
        reference = manifest.choose(architecture.name).tag

    builder = load.builder(architecture)
    check_options(architecture, options)
    where = torch.device(device) if device is not None else torch.get_default_device()
    kind = dtype or torch.get_default_dtype()
    file = opened.open_weights(reference, architecture) if reference is not None else None
    if file is not None:
        check_options(architecture, file.options, f"{file.weights.name}: ")
    if num_classes is None:
        num_classes = 1000 if file is None else opened.class_count(file) or 0

    def build(**implied: Any) -> Backbone:
        model = builder(
            num_classes=num_classes,
            in_chans=in_chans,
            drop_rate=drop_rate,
            output_stride=output_stride,
            device="meta",
            dtype=kind,
            **(dict(architecture.options) | implied | options),
        )
        model.name = architecture.name
        model.options = implied | options
        return model

    if file is not None:
        return load.load(file, architecture, build, in_chans=in_chans, device=where, dtype=kind).eval()
    model = build()
    load.materialise(model, where)
    return model


def check_options(architecture: Architecture, options: Mapping[str, Any], where: str = "") -> None:
    """Raise BadOption for an option that the architecture's family does not have; `where` says whose options they are."""
    known = architecture.own_options
    for option in options:
        if option not in known:
            own = f"; it has {', '.join(known)}" if known else ""
            raise BadOption(f'{where}{architecture.name} has no option "{option}"{nearest(option, known) or own}')


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
