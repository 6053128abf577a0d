"""The header that trickzoo writes into a weight file: model, task, options, classes, preprocessing, and how the weights were trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from trickzoo.errors import BadCheckpoint
from trickzoo.weights.named import existing
from trickzoo.weights.record import LIST_LENGTHS, METADATA_KEY, ClassList, Layout, Preprocessing

if TYPE_CHECKING:
    from trickzoo.backbone import Backbone


class FileMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the key "trickzoo" in the metadata of a weight file or a checkpoint.

    Attributes:
        model: the architecture, or that of the backbone.
        task: "classification", "detection" or "segmentation".
        layout: whose names the tensors have.
        options: the options of `trickzoo.create` that the network was built with.
        in_chans: the number of input channels.
        output_stride: the stride of a classifier's last feature map.
        classes: the names of the classes in the order of the outputs, or the name of a list that the package ships.
        preprocessing: how an image is prepared for the network.
        source: the zoo's weight that the file was exported from.
        training: the recipe, the random seed and what else describes the training.
    """

    model: str
    task: str = "classification"
    layout: Layout = "trickzoo"
    options: dict[str, str | bool] = {}
    in_chans: int = 3
    output_stride: Literal[8, 16, 32] = 32
    classes: str | tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    source: str | None = None
    training: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.classes, str) and self.classes not in get_args(ClassList):
            raise ValueError(f"classes must be a list of names, or one of {', '.join(get_args(ClassList))}")


def read_header(path: Path, metadata: Mapping[str, str]) -> FileMetadata | None:
    """Return the header in the metadata of a file, None if trickzoo did not write the file. Raises BadCheckpoint if it cannot be read."""
    if METADATA_KEY not in metadata:
        return None
    try:
        return msgspec.json.decode(metadata[METADATA_KEY], type=FileMetadata)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise BadCheckpoint(f"{path}: its trickzoo header cannot be read ({error})") from None
    except RecursionError:
        raise BadCheckpoint(f"{path}: its trickzoo header cannot be read (it is nested too deeply)") from None


def header(
    model: Backbone,
    training: dict[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
) -> dict[str, str]:
    """Return the metadata of a file that holds a network's tensors in the zoo's layout.

    `training` describes the training. It, the classes and the preprocessing are by default those of the weights that were loaded. The
    classes are left out if they are not as many as the outputs, because the classifier was replaced.
    """
    weights = model.weights
    known = weights.classes if weights else None
    if known is not None and (LIST_LENGTHS[known] if isinstance(known, str) else len(known)) != model.num_classes:
        known = None
    own = FileMetadata(
        model=model.name,
        options=dict(model.options),
        in_chans=model.in_chans,
        output_stride=model.feature_info[-1].stride,  # type: ignore[arg-type]
        classes=tuple(classes) if classes is not None else known,
        preprocessing=preprocessing or (weights.preprocessing if weights else None),
        source=weights.name if weights and weights.record else None,
        training=training or (weights.training if weights else None),
    )
    return encoded(own)


def encoded(own: FileMetadata) -> dict[str, str]:
    """Return the metadata of a file with this header."""
    return {METADATA_KEY: msgspec.json.encode(own).decode()}


def of_file(path: Path) -> FileMetadata | None:
    """Read the header of a weight file or checkpoint; None if trickzoo did not write it. Raises BadCheckpoint if it cannot be read."""
    path = existing(path)  # reports a missing file before torch is imported
    from trickzoo.weights import tensors

    return read_header(path, tensors.read_tensors(path).metadata)


def required(path: Path) -> FileMetadata:
    """Return the header of a weight file or checkpoint that trickzoo wrote. Raises BadCheckpoint if the file has none."""
    own = of_file(path)
    if own is None:
        raise BadCheckpoint(f"{path} does not name its model; write it with `trickzoo export`, or pass the model with the weights")
    return own


def model_of(path: Path) -> str:
    """Return the name of the model in a weight file or checkpoint that trickzoo wrote. Raises BadCheckpoint if the file has no header."""
    return required(path).model


def task_of(path: Path) -> str:
    """Return the task in the header of a weight file: "detection", "segmentation" or "classification", which is also the default."""
    own = of_file(path)
    return own.task if own else "classification"
