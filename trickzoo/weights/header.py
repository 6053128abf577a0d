"""What trickzoo says of a weight file inside the file: its model, its classes, its preprocessing, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec

from trickzoo.backbone import Backbone
from trickzoo.errors import BadCheckpoint
from trickzoo.weights import tensors
from trickzoo.weights.record import METADATA_KEY, ClassList, Layout, Preprocessing


class FileMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What trickzoo writes into the header of a weight file, and into a checkpoint, under the key "trickzoo".

    `classes` are the names themselves or the name of a list that the package ships; `in_chans` is the number of input channels.
    """

    model: str
    task: str = "classification"
    layout: Layout = "trickzoo"
    options: dict[str, str | bool] = {}
    in_chans: int = 3
    classes: str | tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    source: str | None = None
    training: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.classes, str) and self.classes not in get_args(ClassList):
            raise ValueError(f"classes is a list of names, or one of {', '.join(get_args(ClassList))}")


def read_header(path: Path, metadata: Mapping[str, str]) -> FileMetadata | None:
    """What trickzoo wrote into a file's header, None in a file of others. Raises BadCheckpoint if it cannot be read."""
    if METADATA_KEY not in metadata:
        return None
    try:
        return msgspec.json.decode(metadata[METADATA_KEY], type=FileMetadata)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise BadCheckpoint(f"{path}: its trickzoo header cannot be read ({error})") from None
    except RecursionError:
        raise BadCheckpoint(f"{path}: its trickzoo header cannot be read (it is nested too deeply)") from None


def header(model: Backbone, training: dict[str, Any] | None = None) -> dict[str, str]:
    """The metadata of a file that holds this model's tensors in our layout; `training` is the recipe and what else made them."""
    weights = model.weights
    own = FileMetadata(
        model=model.name,
        options=dict(model.options),
        in_chans=model.in_chans,
        classes=weights.classes if weights else None,
        preprocessing=weights.preprocessing if weights else None,
        source=weights.name if weights and weights.record else None,
        training=training or (weights.training if weights else None),
    )
    return {METADATA_KEY: msgspec.json.encode(own).decode()}


def of_file(path: Path) -> FileMetadata | None:
    """What trickzoo says of a weight file or checkpoint inside the file; None in a file of others."""
    return read_header(path, tensors.read_tensors(path).metadata)


def model_of(path: Path) -> str:
    """Name of the model in a weight file or checkpoint that trickzoo wrote. Raises BadCheckpoint if the file does not say."""
    own = of_file(path)
    if own is None:
        raise BadCheckpoint(f"{path} does not say which model it holds; write it with `trickzoo export`")
    return own.model


def task_of(path: Path) -> str:
    """What the network in a weight file is for: "detection", "segmentation", or "classification", also where the file does not say."""
    own = of_file(path)
    return own.task if own else "classification"
