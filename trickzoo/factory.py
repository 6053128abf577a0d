"""Creates backbones by name, with or without weights, and freezes parts of them for fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from os import PathLike
from types import MappingProxyType
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trickzoo.backbone import Backbone
from trickzoo.errors import BadOption, check_choice, nearest
from trickzoo.registry import Architecture
from trickzoo.weights import load, named, opened
from trickzoo.weights.header import model_of

INSTEAD = {
    **dict.fromkeys(("features_only", "out_indices"), "forward_pyramid(x) returns the feature maps"),
    "global_pool": "forward_features(x) returns the map before the average over its cells",
    **dict.fromkeys(("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"), "name the file with weights"),
    **dict.fromkeys(("drop_path_rate", "drop_block_rate"), "it has no stochastic depth, only dropout before the classifier, drop_rate"),
    "act_layer": 'its activation function is ReLU, and in MobileNet v1 also activation="relu6"',
    "cache_dir": "HF_HUB_CACHE and TRICKZOO_HOME name the folders of downloads",
    "progress": "downloads show their progress on a terminal",
    "norm_layer": "its normalisation is BatchNorm, which freeze(…) can freeze",
    "replace_stride_with_dilation": "output_stride=16 or 8 dilates the last stages",
    **dict.fromkeys(("exportable", "scriptable"), "torch.export and torch.onnx.export accept every network"),
    **dict.fromkeys(("zero_init_last", "zero_init_residual"), "trickzoo.tricks.zero_gamma.zero_last_gammas(model) sets them to 0"),
}
"""Options of timm and torchvision that `create` does not have, with their replacements for the error message."""
COMMON = ("num_classes", "in_chans", "drop_rate", "output_stride")
"""Options of `create` for every family."""


def create(
    name: str | PathLike[str],
    *,
    pretrained: bool | str = False,
    weights: str | PathLike[str] | None = None,
    num_classes: int | None = None,
    in_chans: int | None = 3,
    drop_rate: float = 0.0,
    output_stride: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Backbone:
    """Create a backbone of the zoo.

    Args:
        name: name of a model ("resnet50_d") or of a weight ("resnet50_d.gluon_in1k"), or the path of a weight file that trickzoo wrote or
            of the folder of a training run. A weight is loaded into its model, and a file into the model that it names.
        pretrained: True loads the default weight of the model, a string loads the weight with that tag.
        weights: a tag, the path of a file (in the layout of trickzoo, timm, torchvision or OpenMMLab; safetensors or pickled tensors), or
            a hub reference "hf-hub:user/name[@revision]". It cannot be combined with `pretrained`.
        num_classes: number of outputs; 0 leaves out the classifier. By default the number that the weights have, or 1000 without weights.
            If the weights have another number, the classifier is initialised anew and a warning is logged.
        in_chans: number of input channels. The first convolution of weights for three channels is adapted to another number: its kernels
            are summed for one channel, and otherwise repeated and scaled. None takes the number that a file of trickzoo states, else 3.
        drop_rate: probability of dropout before the classifier.
        output_stride: stride of the last feature map: 32, or 16 or 8 with dilation. Inception V3 has 32 only. By default the stride that
            a file of trickzoo states, else 32.
        device: device of the parameters; by default torch's default device.
        dtype: type of the parameters; by default torch's default dtype, whatever type the file has.
        **options: options of one family: `activation` of MobileNet v1, `aux_head` of Inception V3.

    Returns:
        The network, in evaluation mode if weights were loaded, otherwise in training mode. Its attribute `weights` describes the weights.

    Raises:
        UnknownName: if there is no such model, weight or tag.
        NoWeights: if the model has no weights, or no default weight.
        BadOption: if an option has a value that the model does not support.
        WeightsUnavailable: if no source gives the file of the weights.
        DigestMismatch: if the file does not have the recorded SHA-256.
        BadCheckpoint: if the file cannot be read or does not fit the model.
    """
    if weights is not None and (not isinstance(weights, str | PathLike) or weights == "DEFAULT"):
        instead = "load_state_dict takes tensors" if isinstance(weights, Mapping) else "pretrained=True loads the default weight"
        raise BadOption(f"{name}: weights is a tag or a file; {instead}")
    if not isinstance(name, str | PathLike):
        raise BadOption(f"create takes the name of a model or of a weight, or a path, not {type(name).__name__}")
    if not isinstance(pretrained, bool | str | None):
        raise BadOption(f"{name}: pretrained is True, False or a tag, not {pretrained!r}")
    if not isinstance(dtype, torch.dtype | None) or (dtype is not None and not dtype.is_floating_point):
        raise BadOption(f"{name}: dtype must be a floating-point type, such as torch.float16, not {dtype!r}")
    if not isinstance(name, str) or named.is_file(name):
        if pretrained or weights is not None:
            raise BadOption(f"{name} is a file with weights; leave pretrained and weights out, or name a model")
        weights = named.existing(name)
        name = model_of(weights)
    architecture, source = named.resolve(name, pretrained=pretrained, weights=weights)
    for option, value, valid in (
        ("num_classes", num_classes, num_classes is None or (isinstance(num_classes, Integral) and num_classes >= 0)),
        ("in_chans", in_chans, in_chans is None or (isinstance(in_chans, Integral) and in_chans >= 1)),
        ("drop_rate", drop_rate, isinstance(drop_rate, Real) and 0 <= drop_rate <= 1),
    ):
        if not valid or isinstance(value, bool):
            raise BadOption(f"{name}: {option} cannot be {value!r}")
    check_options(architecture, options)
    file = opened.open_weights(source, architecture) if source is not None else None
    return assemble(
        architecture,
        file,
        num_classes=num_classes,
        in_chans=in_chans,
        drop_rate=drop_rate,
        output_stride=output_stride,
        device=device,
        dtype=dtype,
        options=options,
    )


def assemble(
    architecture: Architecture,
    file: opened.Opened | None,
    *,
    num_classes: int | None = None,
    in_chans: int | None = 3,
    drop_rate: float = 0.0,
    output_stride: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Backbone:
    """Build a network, with the tensors of an opened file if there is one. The arguments are those of `create`, and so are the errors."""
    builder = load.builder(architecture)
    where = torch.device(device) if device is not None else torch.get_default_device()
    kind = dtype or torch.get_default_dtype()
    if file is not None:
        check_options(architecture, file.options, f"{file.weights.name}: ")
    if num_classes is None:
        num_classes = 1000 if file is None else opened.class_count(file) or 0
    channels = in_chans or (3 if file is None else file.in_chans)
    if output_stride is None:
        output_stride = 32 if file is None else file.output_stride

    def build(**implied: Any) -> Backbone:
        model = builder(
            num_classes=num_classes,
            in_chans=channels,
            drop_rate=drop_rate,
            output_stride=output_stride,
            device="meta",
            dtype=kind,
            **(dict(architecture.options) | implied | dict(options)),
        )
        model.name = architecture.name
        model.options = implied | dict(options)
        return model

    if file is not None:
        return load.load(file, architecture, build, in_chans=channels, device=where, dtype=kind).eval()
    model = build()
    load.materialise(model, where)
    return model


def check_options(architecture: Architecture, options: Mapping[str, Any], where: str = "") -> None:
    """Raise BadOption for an option that the architecture's family does not have. The message begins with `where`."""
    known = architecture.own_options
    for option in options:
        if option not in known:
            near = nearest(option, (*known, *COMMON)) if option not in INSTEAD else f"; {INSTEAD[option]}"
            own = f"; it has {', '.join(known)}" if known else ""
            raise BadOption(f'{where}{architecture.name} has no option "{option}"{near or own}')


Trainable = int | Literal["all"]
"""How many of the last stages of a backbone are trained; "all" adds the stem."""
Norms = Literal["frozen", "live"]
"""Whether the BatchNorm layers of a backbone are frozen."""


def create_trunk(
    name: str, weights: bool | str | PathLike[str] | None, options: Mapping[str, Any] | None = None, *, output_stride: int = 32
) -> Backbone:
    """Create a backbone without classifier, for a detector or a segmenter.

    Args:
        name: a model, or a weight of a model.
        weights: True for the default weight, a tag, a file or a hub reference; None or False for random parameters.
        options: options of the model's family, such as `{"activation": "relu6"}`.
        output_stride: 32, 16 or 8, as far as the model supports it.

    Raises the errors of `create`.
    """
    file = None if isinstance(weights, bool) else weights
    return create(name, pretrained=weights is True, weights=file, num_classes=0, output_stride=output_stride, **(options or {}))


def freeze_trunk(trunk: Backbone, trainable_stages: Trainable, norms: Norms) -> None:
    """Freeze, in place, all stages of a backbone but the last ones.

    Args:
        trunk: a backbone.
        trainable_stages: how many of the last stages are trained: 0 for none, "all" for every stage and the stem.
        norms: "frozen" freezes statistics, scale and shift of every BatchNorm, "live" only those in the frozen stages.

    Raises BadOption for any other value.
    """
    check_choice(f"{trunk.name}: norms", norms, get_args(Norms))
    stages = len(trunk.stages)
    frozen: list[nn.Module] = []
    if trainable_stages != "all":
        if not isinstance(trainable_stages, int) or not 0 <= trainable_stages <= stages:
            raise BadOption(f'{trunk.name}: trainable_stages must be 0 to {stages}, or "all" for the stem too, not {trainable_stages}')
        frozen = [trunk.stem, *trunk.stages[: stages - trainable_stages]]
    for module in [trunk] if norms == "frozen" else frozen:
        freeze_norms(module)
    if frozen:
        trunk.freeze(*frozen)


def frozen_norms(trunk: Backbone, *more: nn.Module) -> dict[str, Any]:
    """Return the arguments of `freeze_trunk` that freeze the BatchNorms which are frozen now.

    If all of them are frozen, `trainable_stages` does not matter to them and is left out. `more` are stages that follow those of the
    backbone, such as the one in the box head of a C4 detector.
    """
    live = [any(isinstance(module, _BatchNorm) for module in part.modules()) for part in (trunk.stem, *trunk.stages, *more)]
    return {"norms": "live", "trainable_stages": "all" if live[0] else sum(live)} if any(live) else {"norms": "frozen"}


def freeze_norms(module: nn.Module) -> nn.Module:
    """Replace, in place, every BatchNorm2d inside `module` by torchvision's FrozenBatchNorm2d with the same tensors and eps.

    Returns the module, or its replacement if it is a BatchNorm2d itself. The output of the network in evaluation mode does not change.
    """
    from torchvision.ops import FrozenBatchNorm2d  # only here, because importing torchvision takes as long as importing torch

    if isinstance(module, nn.BatchNorm2d):
        frozen = FrozenBatchNorm2d(module.num_features, eps=module.eps).to(module.weight.device, module.weight.dtype)
        frozen.load_state_dict(module.state_dict())
        return frozen
    for name, child in module.named_children():
        module.add_module(name, freeze_norms(child))
    return module
