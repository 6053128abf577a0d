"""Creating a network with the weights of a file that is in the page cache."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

import trickzoo
from benchmarks.speed.harness import Comparison

WHAT = "create a network and load a verified file in timm's layout; both libraries read the same file"
MODELS = {
    "resnet50_d": "resnet50d",
    "resnet152_d": "resnet152d",
    "inception_v3": "inception_v3",
    "mobilenet_v1_100": "mobilenetv1_100",
}


def comparisons() -> Iterator[Comparison]:
    """Yield a comparison for each network, after the logits of both libraries were compared."""
    for ours, theirs in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.safetensors"
            save_file(timm.create_model(theirs).state_dict(), file)
            variants = {
                "trickzoo": lambda name=ours, file=file: trickzoo.create(name, weights=file),
                "timm": lambda name=theirs, file=file: timm.create_model(name, checkpoint_path=str(file)),
            }
            yield Comparison(ours, variants, facts={"largest_difference": _difference(*(make() for make in variants.values()))})


@torch.inference_mode()
def _difference(ours: torch.nn.Module, theirs: torch.nn.Module) -> float:
    images = torch.rand(2, 3, 160, 160)
    found = float((ours.eval()(images) - theirs.eval()(images)).abs().max())
    assert found < 1e-4, found
    return found
