"""trickzoo: trick-trained image backbones with verified weights and exact evaluation.

Importing this package, listing its models and listing its weights never import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trickzoo import moved

moved.install()

__version__ = "0.1.0"

__all__ = [
    "TrickzooError",
    "__version__",
    "class_names",
    "create",
    "deploy",
    "describe",
    "detection",
    "eval_transform",
    "export",
    "from_timm",
    "from_torchvision",
    "list_models",
    "list_networks",
    "list_weights",
    "load",
    "segmentation",
    "to_timm",
    "train_transform",
]

if TYPE_CHECKING:
    from trickzoo import detection, segmentation
    from trickzoo.catalogue import describe, list_models, list_networks, list_weights
    from trickzoo.data.classes import class_names
    from trickzoo.data.training_transform import train_transform
    from trickzoo.data.transforms import eval_transform
    from trickzoo.deployment.deploy import deploy
    from trickzoo.errors import TrickzooError
    from trickzoo.factory import create
    from trickzoo.interop import from_timm, from_torchvision, to_timm
    from trickzoo.loading import load
    from trickzoo.weights.export import export

_HOMES = {
    "TrickzooError": "trickzoo.errors",
    "class_names": "trickzoo.data.classes",
    "create": "trickzoo.factory",
    "deploy": "trickzoo.deployment.deploy",
    "describe": "trickzoo.catalogue",
    "eval_transform": "trickzoo.data.transforms",
    "export": "trickzoo.weights.export",
    "from_timm": "trickzoo.interop",
    "from_torchvision": "trickzoo.interop",
    "list_models": "trickzoo.catalogue",
    "list_networks": "trickzoo.catalogue",
    "list_weights": "trickzoo.catalogue",
    "load": "trickzoo.loading",
    "to_timm": "trickzoo.interop",
    "train_transform": "trickzoo.data.training_transform",
}
_PACKAGES = ("detection", "segmentation")
_ELSEWHERE = {
    **dict.fromkeys(("create_model", "get_model", "load_checkpoint"), "create"),
    "is_model": "list_models",
    **dict.fromkeys(("list_pretrained", "get_model_weights"), "list_weights"),
    **dict.fromkeys(("get_pretrained_cfg", "get_weight"), "describe"),
    **dict.fromkeys(("faster_rcnn", "fasterrcnn_resnet50_fpn"), "detection.faster_rcnn"),
    **dict.fromkeys(("fcn", "fcn_resnet50", "fcn_resnet101"), "segmentation.fcn"),
    **dict.fromkeys(("create_transform", "resolve_data_config", "resolve_model_data_config"), "eval_transform"),
}
"""Functions of timm and torchvision, and those that take their place here."""


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _PACKAGES:
        return import_module(f"trickzoo.{name}")
    if name not in _HOMES:
        registry = import_module("trickzoo.registry")
        near = f"; trickzoo.{_ELSEWHERE[name]} takes its place" if name in _ELSEWHERE else ""
        if name in (*registry.ARCHITECTURES, *registry.ALIASES):
            near = f'; trickzoo.create("{name}") creates this network'
        raise AttributeError(f"module 'trickzoo' has no attribute {name!r}{near}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_PACKAGES})
