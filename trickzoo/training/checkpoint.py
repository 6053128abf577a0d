"""Checkpoints: written whole or not at all, checked when they are read, and read without running any pickle's code."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from trickzoo import files
from trickzoo.data.identity import same_set
from trickzoo.errors import BadCheckpoint, BadOption
from trickzoo.recipes.collection import AnyRecipe, from_plain, plain
from trickzoo.weights.tensors import read_pickle

LAST, BEST = "last.pt", "best.pt"

DRAWS = 2
"""Which way of drawing random numbers a checkpoint was trained with. Those without this field are of the first."""

NUMBER = (int, float)
FIELDS: dict[str, type | tuple[type, ...]] = {
    "recipe": dict, "seed": int, "data_digest": str, "step": int, "best": NUMBER, "evaluation": dict, "seconds": NUMBER, "model": dict,
    "optimiser": dict,
}  # fmt: skip
"""What every checkpoint holds, those of older versions too."""


@dataclass
class State:
    """How far a training is.

    Attributes:
        step: optimiser steps that are done.
        best: highest figure of any evaluation.
        evaluation: the last one.
        seconds: that all parts of the training took together.
        loss_sum, losses: sum and number of the losses of the steps of this epoch.
        unevaluated: the epoch is at its end and its evaluation is still to come.
        commits: of the checkouts that the training ran under, in order.
    """

    step: int = 0
    best: float = 0.0
    evaluation: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    loss_sum: float = 0.0
    losses: int = 0
    unevaluated: bool = False
    commits: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, content: dict[str, Any]) -> State:
        """The state in a checkpoint; fields that are younger than it have their defaults."""
        return cls(**{each.name: content[each.name] for each in fields(cls) if each.name in content})


def save(path: Path, state: State, content: dict[str, Any]) -> None:
    """Write a checkpoint: temporary file, fsync, rename. Raises NotWritten if the disk refuses; the previous one is then still there."""
    buffer = io.BytesIO()
    torch.save({**content, **asdict(state), "draws": DRAWS}, buffer)
    files.write_atomically(path, files.seal_zip(buffer.getvalue()), remedy="make room; the checkpoint before it is untouched")


def load(path: Path, recipe: AnyRecipe, **this: Any) -> dict[str, Any]:
    """Read a checkpoint that continues this very training.

    Raises BadCheckpoint if the file is damaged, with the checkpoint that can stand in for it, or with the first thing that differs, as
    `check` does.
    """
    content = _read(path)
    check(path, content, recipe, **this)
    return content


def _read(path: Path) -> dict[str, Any]:
    try:
        return _whole(path)
    except BadCheckpoint as error:
        raise BadCheckpoint(f"{error}; {_way_out(path)}") from None


def _way_out(path: Path) -> str:
    """What to do about a damaged checkpoint."""
    best = path.with_name(BEST)
    try:
        if path.name == LAST and best.exists():
            return f"copy {best} over it to go on from step {_whole(best)['step']}, or name another --out"
    except BadCheckpoint:
        pass
    return "remove it to begin anew, or name another --out"


def _whole(path: Path) -> dict[str, Any]:
    """The content of a checkpoint that is as it was written. Raises BadCheckpoint otherwise."""
    content = read_pickle(path)
    if damaged := _damaged_part(path):
        raise BadCheckpoint(f"{path} is damaged ({damaged} is not as it was written)")
    if not isinstance(content, dict) or "step" not in content:
        raise BadCheckpoint(f"{path} is not a training checkpoint of trickzoo")
    for name, kind in FIELDS.items():
        if not isinstance(content.get(name), kind):
            raise BadCheckpoint(f"{path} is damaged (it has no {name})")
    return content


def _damaged_part(path: Path) -> str | None:
    """The first part with a wrong checksum of an archive without digest, as older versions wrote them."""
    try:
        with files.open_regular(path) as file:
            if files.seal_is_whole(file) or not zipfile.is_zipfile(file):
                return None
            with zipfile.ZipFile(file) as archive:
                return archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError):
        return "the archive"
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be read ({error.strerror or error})") from None


def check(
    path: Path,
    content: dict[str, Any],
    recipe: AnyRecipe,
    *,
    seed: int,
    data_digest: str | None = None,
    val_digest: str | None = None,
    weights_sha256: str | None = None,
    teacher_sha256: str | None = None,
) -> None:
    """Raise BadCheckpoint with the first thing that differs if a checkpoint's or result file's content is of another training.

    Digests that are not given are not compared; those of validation images, and of the weight files that a training starts from and
    distils from, are not in files of older versions, and the digests there do not cover labels (`data.identity`). A weight file with the
    same content counts as the same wherever it lies.
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
    weights = (content.get("weights_sha256"), weights_sha256)
    digests = {"weights": weights, "pretrained": weights, "teacher": (content.get("teacher_sha256"), teacher_sha256)}
    for name, (found, wanted) in digests.items():
        if name in here and found and wanted:  # files of older versions have the recipe's spelling only
            there[name], here[name] = found, wanted
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
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be read ({error.strerror or error})") from None
    return found
