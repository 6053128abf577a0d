"""Checkpoints: they are written atomically, verified when they are read, and read without running code from the pickle."""

from __future__ import annotations

import io
import sys
import zipfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from trickzoo import files
from trickzoo.data.identity import brief, same_set
from trickzoo.errors import BadCheckpoint, BadOption
from trickzoo.output_files import BEST, LAST
from trickzoo.recipes.collection import AnyRecipe, from_dict, to_dict
from trickzoo.weights.pickles import read_pickle, seal_is_whole, seal_zip

DRAWS = 2
"""Version of the scheme for random numbers that a training run uses. Checkpoints without this field were trained with version 1."""

NUMBER = (int, float)
FIELDS: dict[str, type | tuple[type, ...]] = {
    "recipe": dict, "seed": int, "data_digest": str, "step": int, "best": NUMBER, "evaluation": dict, "seconds": NUMBER, "model": dict,
    "optimiser": dict,
}  # fmt: skip
"""Fields that every checkpoint has, including checkpoints of older versions, and their types."""
TEXT_OR_NONE, DICT_OR_NONE = (str, type(None)), (dict, type(None))
IDENTITY = ("recipe", "seed", "data_digest", "val_digest", "weights_sha256", "teacher_sha256")
"""Fields by which `check` tells training runs apart. Result files have them, too."""
OPTIONAL: dict[str, type | tuple[type, ...]] = {
    "val_digest": TEXT_OR_NONE, "weights_sha256": TEXT_OR_NONE, "teacher_sha256": TEXT_OR_NONE, "metadata": dict, "average": DICT_OR_NONE,
    "scaler": DICT_OR_NONE, "loss_sum": NUMBER, "losses": int, "unevaluated": bool, "commits": list, "draws": int,
    "processes": int, "micro_batch": int,
}  # fmt: skip
"""Fields that checkpoints of older versions may lack, and their types."""


@dataclass
class State:
    """Progress of a training run, as a checkpoint stores it.

    Attributes:
        step: number of optimiser steps taken so far.
        best: highest value of the task's measure in any evaluation, in percent.
        evaluation: metrics of the last evaluation, in percent; empty before the first.
        seconds: duration of the training so far, including the runs that it was resumed from.
        loss_sum: sum of the losses of the steps taken in the current epoch.
        losses: number of the losses in `loss_sum`.
        unevaluated: whether the steps of the epoch are complete but its evaluation is not.
        commits: commits of the code that the training ran with, in order.
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
        """Return the state in the content of a checkpoint. Fields that an older version did not write have their defaults."""
        return cls(**{each.name: content[each.name] for each in fields(cls) if each.name in content})


def save(path: Path, state: State, content: dict[str, Any]) -> None:
    """Write a checkpoint atomically. Raises NotWritten if it cannot be written; the previous checkpoint is then unchanged."""
    buffer = io.BytesIO()
    torch.save({**content, **asdict(state), "draws": DRAWS}, buffer)
    files.write_atomically(path, seal_zip(buffer.getvalue()), remedy="make room; the previous checkpoint is unchanged")


def load(path: Path, recipe: AnyRecipe, **this: Any) -> dict[str, Any]:
    """Read the checkpoint of a training run with this recipe and with the seed and digests in `this`, which are the arguments of `check`.

    Raises BadCheckpoint if the file is damaged (the message names a checkpoint that can replace it) or belongs to another training run.
    """
    content = _read(path)
    check(path, content, recipe, **this)
    return content


def _read(path: Path) -> dict[str, Any]:
    try:
        return _verified(path)
    except BadCheckpoint as error:
        raise BadCheckpoint(f"{error}; {_remedy(path)}") from None


def _remedy(path: Path) -> str:
    """Return the remedy for a damaged checkpoint, as the end of a message."""
    best = path.with_name(BEST)
    try:
        if path.name == LAST and best.exists():
            return f"copy {best} over it to resume from step {_verified(best)['step']}, or name another --out"
    except BadCheckpoint:
        pass
    return "remove it to start again, or name another --out"


def _verified(path: Path) -> dict[str, Any]:
    """Read a checkpoint and verify its digest and fields. Raises BadCheckpoint if it is damaged, or is not a checkpoint."""
    content = read_pickle(path)
    if damaged := _damaged_part(path):
        raise BadCheckpoint(f"{path} is damaged ({damaged} is not as it was written)")
    if not isinstance(content, dict) or "step" not in content:
        raise BadCheckpoint(f"{path} is not a training checkpoint of trickzoo")
    for name, kind in FIELDS.items():
        if not isinstance(content.get(name), kind):
            raise BadCheckpoint(f"{path} is damaged (it has no {name})")
    for name, kind in OPTIONAL.items():
        if name in content and not isinstance(content[name], kind):
            raise BadCheckpoint(f"{path} is damaged (its {name} is not of the right type)")
    for name in ("best", "seconds", "loss_sum"):
        if not abs(content.get(name, 0)) <= sys.float_info.max:
            raise BadCheckpoint(f"{path} is damaged (its {name} is not a finite number)")
    if not all(isinstance(value, (*NUMBER, dict, type(None))) for value in content["evaluation"].values()):
        raise BadCheckpoint(f"{path} is damaged (its evaluation has a metric that is not a number)")
    return content


def _damaged_part(path: Path) -> str | None:
    """Return the first part of the archive that has a wrong checksum; None if there is none.

    This applies to checkpoints without a digest, which older versions wrote; a digest is verified elsewhere.
    """
    try:
        with files.open_regular(path) as file:
            if seal_is_whole(file) or not zipfile.is_zipfile(file):
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
    """Raise BadCheckpoint, which names the first difference, if the content of a checkpoint or a result belongs to another training run.

    A digest that is None is not compared. Files of older versions lack the digests of the validation images, of the initial weights and of
    the teacher, and their digests of images do not cover labels (`data.identity`). Weight files are compared by content, not by path.

    Args:
        path: the file, for messages.
        content: its content.
        recipe: recipe of this training run.
        seed: random seed of this training run.
        data_digest: digest of the training images.
        val_digest: digest of the validation images.
        weights_sha256: SHA-256 of the weight file that the training starts from.
        teacher_sha256: SHA-256 of the teacher's weight file.
    """
    if content["seed"] != seed:
        raise BadCheckpoint(f"{path} belongs to another training run: its seed is {content['seed']}, not {seed}; name another --out")
    compared = [("data", content["data_digest"], data_digest), ("validation data", content.get("val_digest"), val_digest)]
    for what, found, wanted in compared:
        if found is not None and wanted is not None and not same_set(found, wanted):
            raise BadCheckpoint(
                f"{path} belongs to another training run: its {what} is {brief(found)}, not {brief(wanted)}, because the images, the "
                "times of their files, their labels, their selection (--val-fraction, --split-file, --minival and the like) or how they "
                "are read (--decode, --side) has changed; name another --out"
            )
    try:
        there = to_dict(from_dict(content["recipe"], type(recipe)))  # fields that an older version did not write have their defaults
    except BadOption as error:
        raise BadCheckpoint(f"{path} has another recipe: {error}; name another --out") from None
    here = to_dict(recipe)
    weights = (content.get("weights_sha256"), weights_sha256)
    digests = {"weights": weights, "pretrained": weights, "teacher": (content.get("teacher_sha256"), teacher_sha256)}
    for name, (found, wanted) in digests.items():
        if name in here and found and wanted:  # files of older versions hold the path only, as the recipe spells it
            there[name], here[name] = found, wanted
    for name, value in here.items():
        if there[name] != value:
            raise BadCheckpoint(f"{path} has another recipe: {name} is {there[name]} there, {value} here; name another --out")


def result(path: Path, recipe: AnyRecipe, **this: Any) -> dict[str, Any]:
    """Read the `result.json` of a training with this recipe and with the seed and digests in `this`, which are the arguments of `check`.

    Raises BadCheckpoint if the file belongs to another training run, is not a result file, or cannot be read.
    """
    try:
        found: dict[str, Any] = files.read_json(path)
        for name, kind in {**FIELDS, **OPTIONAL}.items():
            if name in found and name in IDENTITY and not isinstance(found[name], kind):
                raise TypeError(name)
        check(path, found, recipe, **this)
    except BadCheckpoint:
        raise
    except (ValueError, KeyError, TypeError):
        raise BadCheckpoint(f"{path} is not a result file of a training run; move it away") from None
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be read ({error.strerror or error})") from None
    return found
