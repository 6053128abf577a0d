"""Checkpoints: written whole or not at all, read without running any pickle's code."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from trickzoo.errors import BadCheckpoint, BadOption
from trickzoo.recipes.collection import AnyRecipe, from_plain, plain
from trickzoo.weights.convert import read_pickle
from trickzoo.weights.files import write_atomically

LAST, BEST = "last.pt", "best.pt"


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint: temporary file, fsync, rename. Raises BadCheckpoint if the disk refuses; the previous one is then still there."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be written ({error.strerror or error}); the checkpoint before it is untouched") from None


def load(path: Path, recipe: AnyRecipe, *, data_digest: str, seed: int) -> dict[str, Any]:
    """Read a checkpoint that continues this very training. Raises BadCheckpoint with the first thing that differs."""
    content = read_pickle(path)
    if not isinstance(content, dict) or "step" not in content:
        raise BadCheckpoint(f"{path} is not a training checkpoint of trickzoo")
    check(path, content, recipe, data_digest=data_digest, seed=seed)
    return content


def check(path: Path, content: dict[str, Any], recipe: AnyRecipe, *, data_digest: str, seed: int) -> None:
    """Raise BadCheckpoint with the first thing that differs if a checkpoint's or result file's content is of another training."""
    for what, found, wanted in (("seed", content["seed"], seed), ("data", content["data_digest"], data_digest)):
        if found != wanted:
            raise BadCheckpoint(f"{path} is of another training: its {what} is {found}, not {wanted}; name another --out")
    try:
        there = plain(from_plain(content["recipe"], type(recipe)))  # fields that are younger than the file have their defaults
    except BadOption as error:
        raise BadCheckpoint(f"{path} is of another recipe: {error}; name another --out") from None
    for name, value in plain(recipe).items():
        if there[name] != value:
            raise BadCheckpoint(f"{path} is of another recipe: {name} is {there[name]} there, {value} here; name another --out")
