"""Networks to save, their tensors in files of every kind, and the messages of `create` for bad files."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import trickzoo
from trickzoo import registry
from trickzoo.backbone import Backbone
from trickzoo.errors import TrickzooError
from trickzoo.weights import convert

SMALL = "mobilenet_v1_025"
State = dict[str, Tensor]


def network(name: str = SMALL, **options: Any) -> Backbone:
    """Return a network with random statistics. It is shared between tests, which must not change it."""
    return _network(name, **options)


def randomise_norms(model: torch.nn.Module) -> None:
    """Set statistics, scales and shifts to values as after a training, so that an error in them is noticed."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1)
            torch.nn.init.normal_(module.bias, std=0.1)
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)


@functools.cache
def _network(name: str, **options: Any) -> Backbone:
    model = trickzoo.create(name, **options)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith(("running_mean", "running_var")):
                tensor.uniform_(0.5, 1.5)
    return model.eval()


def state(name: str = SMALL, layout: str = "trickzoo", **options: Any) -> State:
    """Return the tensors of a network under the names of a layout."""
    ours = network(name, **options).state_dict()
    return {theirs: ours[own] for theirs, own in convert.key_map(registry.find(name), layout, ours).items()}


def saved(tensors: State, file: Path) -> Path:
    save_file(tensors, file) if file.suffix == ".safetensors" else torch.save(tensors, file)
    return file


def same(model: Backbone, other: Backbone, *but: str) -> bool:
    """Return whether all tensors are equal, except those whose names begin with one of the prefixes `but`."""
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[key]) for key, tensor in model.state_dict().items() if not key.startswith((*but,)))


def complaint(kind: type[TrickzooError], *args: Any, **options: Any) -> str:
    """Return the message of the error that `create` raises, which must be one line."""
    with pytest.raises(kind) as error:
        trickzoo.create(*args, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


FORMATS: dict[str, Callable[[State, Path], Any]] = {
    "safetensors": lambda tensors, file: save_file(tensors, file),
    "zip.pth": lambda tensors, file: torch.save(tensors, file),
    "legacy.pth": lambda tensors, file: torch.save(tensors, file, _use_new_zipfile_serialization=False),
    "state_dict.pth": lambda tensors, file: torch.save({"state_dict": tensors, "epoch": 3, "best": 71.5}, file),
    "model.pt": lambda tensors, file: torch.save({"model": tensors, "args": {"lr": 0.1}}, file),
    "module.pth.bin": lambda tensors, file: torch.save({f"module.{key}": t for key, t in tensors.items()}, file),
    "compiled.ckpt": lambda tensors, file: torch.save({"model": {f"_orig_mod.{key}": t for key, t in tensors.items()}}, file),
}
