"""Checkpoints: written whole or not at all, read without running any pickle's code."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch

from trickzoo.data.identity import same_set
from trickzoo.errors import BadCheckpoint, BadOption
from trickzoo.files import write_atomically
from trickzoo.recipes.collection import AnyRecipe, from_plain, plain
from trickzoo.weights.tensors import read_pickle

LAST, BEST = "last.pt", "best.pt"


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint: temporary file, fsync, rename. Raises BadCheckpoint if the disk refuses; the previous one is then still there."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be written ({error.strerror or error}); the checkpoint before it is untouched") from None


def load(path: Path, recipe: AnyRecipe, **this: Any) -> dict[str, Any]:
    """Read a checkpoint that continues this very training. Raises BadCheckpoint with the first thing that differs, as `check` does."""
    content = read_pickle(path)
    if not isinstance(content, dict) or "step" not in content:
        raise BadCheckpoint(f"{path} is not a training checkpoint of trickzoo")
    check(path, content, recipe, **this)
    return content


def check(
    path: Path,
    content: dict[str, Any],
    recipe: AnyRecipe,
    *,
    seed: int,
    data_digest: str | None = None,
    val_digest: str | None = None,
    weights_sha256: str | None = None,
) -> None:
    """Raise BadCheckpoint with the first thing that differs if a checkpoint's or result file's content is of another training.

    Digests that are not given are not compared; those of validation images and of the weight file that a training starts from are not in
    files of older versions, and the digests there do not cover labels (`data.identity`). From wherever such a file lies, the training is
    the same.
    """
    if content["seed"] != seed:
        raise BadCheckpoint(f"{path} is of another training: its seed is {content['seed']}, not {seed}; name another --out")
    compared = [("data", content["data_digest"], data_digest), ("validation data", content.get("val_digest"), val_digest)]
    for what, found, wanted in compared:
        if found is not None and wanted is not None and not same_set(found, wanted):
            raise BadCheckpoint(f"{path} is of another training: its {what} is {found}, not {wanted}; name another --out")
    try:
        there = plain(from_plain(content["recipe"], type(recipe)))  # fields that are younger than the file have their defaults
    except BadOption as error:
        raise BadCheckpoint(f"{path} is of another recipe: {error}; name another --out") from None
    here = plain(recipe)
    if weights_sha256 and content.get("weights_sha256"):  # files of older versions have the recipe's spelling only
        there["weights"], here["weights"] = content["weights_sha256"], weights_sha256
    for name, value in here.items():
        if there[name] != value:
            raise BadCheckpoint(f"{path} is of another recipe: {name} is {there[name]} there, {value} here; name another --out")


def result(path: Path, recipe: AnyRecipe, **this: Any) -> dict[str, Any]:
    """Read the `result.json` of this very training. Raises BadCheckpoint if it is another's, as `check` does, or no result file."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        check(path, found, recipe, **this)
    except BadCheckpoint:
        raise
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadCheckpoint(f"{path} is not a result file of a training; move it away") from None
    return found
