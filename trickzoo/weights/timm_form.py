"""timm's names of networks, their arguments, and its form of config.json in a hub repository."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, get_args

import msgspec
from torch import nn

from trickzoo import registry
from trickzoo.backbone import Backbone
from trickzoo.errors import BadOption, printable
from trickzoo.registry import BASIC, Architecture
from trickzoo.weights import convert
from trickzoo.weights.record import Interpolation, Preprocessing, Record

log = logging.getLogger("trickzoo")

SEEN = ("num_classes", "in_chans", "drop_rate", "drop_path_rate")
"""Arguments of `timm.create_model` that show in the shapes of the tensors, or have an effect in trainings only."""


def network(model: Backbone) -> tuple[str, dict[str, Any]]:
    """Return the name of timm's network that computes the same, and the arguments of `timm.create_model` that it needs.

    Raises BadOption if timm does not have it, with the difference.
    """
    architecture = registry.find(model.name)
    arguments: dict[str, Any] = {}
    if stride := _output_stride(model):
        arguments["output_stride"] = stride
        if architecture.options.get("letter") == "d":
            raise BadOption(f"timm's {model.name} pools in the shortcuts of dilated stages, trickzoo's does not; use output_stride 32")
    if "timm" not in convert.layouts(architecture):
        why = ": its bottlenecks have their stride in the first 1x1 convolution" if convert.is_original(architecture) else ""
        raise BadOption(f"{model.name} does not exist in timm{why}")
    if architecture.family == "mobilenet_v1":
        name = {"mobilenet_v1_100": "mobilenetv1_100", "mobilenet_v1_100h": "mobilenetv1_100h", "mobilenet_v1_125": "mobilenetv1_125"}
        if model.name not in name:
            raise BadOption(f"{model.name} does not exist in timm, whose MobileNets v1 have 1 or 1.25 times the channels")
        return name[model.name], arguments | ({} if getattr(model, "activation", "") == "relu6" else {"act_layer": "relu"})
    if architecture.family == "inception_v3":
        return "inception_v3", arguments | ({"aux_logits": True} if getattr(model, "aux_head", None) is not None else {})
    depth, letter = architecture.options["depth"], architecture.options["letter"]
    if depth in BASIC and letter == "c":
        return f"resnet{depth}", arguments | {"stem_type": "deep", "stem_width": 32}
    return f"resnet{depth}{letter if letter in 'cds' else ''}", arguments


def _output_stride(model: Backbone) -> int | None:
    """Return the stride of the last feature map if it is not the usual 32."""
    stride = model.feature_info[-1].stride
    return None if stride == 32 else stride


def options(architecture: Architecture, theirs: nn.Module) -> dict[str, Any]:
    """Return the options of `trickzoo.create` with which the zoo's network computes the same as one of another library."""
    if architecture.family == "mobilenet_v1":
        return {"activation": "relu6" if any(isinstance(module, nn.ReLU6) for module in theirs.modules()) else "relu"}
    if architecture.family == "inception_v3" and any(key.startswith("AuxLogits.") for key in theirs.state_dict()):
        return {"aux_head": True}
    return {}


def config(model: Backbone, licence: str) -> dict[str, Any]:
    """Return the fields of config.json from which `timm.create_model("hf-hub:…")` builds a classifier.

    The network's weights state its preprocessing. Raises BadOption if they do not, or if timm does not have the network.
    """
    name, arguments = network(model)
    if model.weights is None or model.weights.preprocessing is None:
        raise BadOption(f"{model.name} does not state its preprocessing")
    if model.in_chans != 3:
        arguments["in_chans"] = model.in_chans
    stated = {"custom_load": False, **pretrained_cfg(model), "license": licence}
    return {"architecture": name, "num_features": model.num_features, "pretrained_cfg": stated} | (
        {"model_args": arguments} if arguments else {}
    )


def pretrained_cfg(model: Backbone) -> dict[str, Any]:
    """Return what `pretrained_cfg` of timm's network should state about a network of the zoo.

    It has the preprocessing only if the network's weights state it. Raises BadOption if timm does not have the network.
    """
    import timm

    name, arguments = network(model)
    known: Any = timm.get_pretrained_cfg(name)
    stated: dict[str, Any] = {
        "num_classes": model.num_classes,
        "pool_size": None,
        "first_conv": "conv1.0" if arguments.get("stem_type") else known.first_conv,
        "classifier": known.classifier,
    }
    return stated | model.pretrained_cfg


def read(config: Mapping[str, Any], name: str) -> tuple[Preprocessing | None, tuple[str, ...] | None]:
    """Return the preprocessing and the class names that a config.json in timm's form states, each None if it states none.

    A preprocessing that `Preprocessing` cannot express is left out, and a warning says so; `name` names the network in it.
    Raises AttributeError, KeyError, IndexError, TypeError or ValueError if the config is not in that form.
    """
    stated = config.get("pretrained_cfg") or {}
    preprocessing = None
    if "input_size" in stated and (other := _inexpressible(stated)):
        log.warning("%s: its preprocessing is left out, because trickzoo does not have %s", printable(name), printable(other))
    elif "input_size" in stated:
        fields = {"crop": "crop_pct", "interpolation": "interpolation", "mean": "mean", "std": "std"}
        given = {ours: stated[theirs] for ours, theirs in fields.items() if stated.get(theirs) is not None}
        given |= {field: 3 * tuple(given[field]) for field in ("mean", "std") if len(given.get(field, ())) == 1}
        preprocessing = msgspec.convert({"size": stated["input_size"][-1], **given}, Preprocessing)
    classes = msgspec.convert(config.get("label_names") or (), tuple[str, ...])
    return preprocessing, classes or None


def unseen_arguments(config: Mapping[str, Any]) -> list[str]:
    """Return the arguments in a config.json in timm's form that change what the network computes and do not show in its tensors.

    Raises AttributeError if the config is not in that form.
    """
    return [f"{name}={value}" for name, value in (config.get("model_args") or {}).items() if name not in SEEN]


def _inexpressible(stated: Mapping[str, Any]) -> str | None:
    """Return the part of timm's preprocessing that `Preprocessing` cannot express, None if it can express the whole."""
    mode, interpolation = stated.get("crop_mode") or "center", stated.get("interpolation") or "bicubic"
    height, width = stated["input_size"][-2:]
    if mode != "center":
        return f"crop_mode {mode}"
    if height != width:
        return f"inputs of {height}×{width} pixels"
    if interpolation not in get_args(Interpolation):
        return f"interpolation {interpolation}"
    if (crop := stated.get("crop_pct")) is not None and crop > 1:
        return f"crop_pct {crop}"
    for field in ("mean", "std"):
        if stated.get(field) is not None and len(stated[field]) not in (1, 3):
            return f"a {field} of {len(stated[field])} channels"
    return None


def record(config: Mapping[str, Any]) -> Record | None:
    """Return the record in a config.json that `trickzoo publish` wrote, None if there is none. Raises ValueError if it is not valid."""
    own = config.get("trickzoo")
    return msgspec.convert(own["record"], Record) if own is not None else None
