"""Writes weight files, in our layout or an upstream one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from trickzoo import registry
from trickzoo.backbone import Backbone
from trickzoo.errors import BadOption
from trickzoo.weights import convert
from trickzoo.weights.header import header
from trickzoo.weights.record import Layout
from trickzoo.weights.tensors import save_atomically


def export(
    model: Backbone,
    path: Path,
    *,
    layout: Layout = "trickzoo",
    overwrite: bool = False,
    training: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model's tensors to a .safetensors or .pth file, under the names of `layout`.

    In our layout the file also says what model it is, its classes and its preprocessing, so that `create(weights=path)` and the evaluation
    need no more, and keeps `training`: the recipe, the seed and what else made the weights, which a file that is exported again keeps too.
    `dtype` rounds floating point tensors: float16 halves the file, and `create` gives them back in its own.
    Raises BadOption if the network does not exist in the layout, computes something else there, or the file exists, and NotWritten if the
    disk refuses it.
    """
    architecture = registry.find(model.name)
    if path.suffix not in (".safetensors", ".pth"):
        raise BadOption(f"{path}: the name of a weight file ends in .safetensors or .pth")
    if path.exists() and not overwrite:
        raise BadOption(f"{path} exists; name another file, or overwrite it with --overwrite")
    for option, value in convert.implied_options(architecture, layout).items():
        if getattr(model, option) != value:
            raise BadOption(
                f"this {model.name} has {getattr(model, option)}, {layout}'s has {value}: the same tensors would compute something else"
            )
    state = model.state_dict()
    names = convert.key_map(architecture, layout, state)
    tensors = {theirs: state[ours] for theirs, ours in names.items()}
    if dtype is not None:
        tensors = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    save_atomically(tensors, path, header(model, training) if layout == "trickzoo" else {"format": "pt"})
