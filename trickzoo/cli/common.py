"""What several commands share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from trickzoo.backbone import Backbone
from trickzoo.cli import printing
from trickzoo.data.classes import class_list
from trickzoo.errors import BadOption
from trickzoo.factory import create
from trickzoo.files import expanded
from trickzoo.weights.header import model_of
from trickzoo.weights.opened import is_file
from trickzoo.weights.record import Interpolation, Preprocessing


def loaded(model: str, weights: str | None) -> Backbone:
    """A model with the weights asked for, or its default ones; or the one in a file that says its model."""
    if weights is None and not model.startswith("hf-hub:") and is_file(model):
        model, weights = model_of(expanded(model)), model
    return create(model, weights=weights) if weights is not None else create(model, pretrained="." not in model)


def preprocessing_of(
    model: Backbone, *, size: int | None = None, crop: float | None = None, interpolation: Interpolation | None = None
) -> Preprocessing:
    """The preprocessing that the weights state, with what the user overrides. Raises BadOption if neither says it all."""
    stated = model.weights.preprocessing if model.weights else None
    if stated is None:
        if size is None or crop is None or interpolation is None:
            name = model.weights.name if model.weights else model.name
            raise BadOption(
                f"{name} does not say how images are prepared for it; pass --size, --crop and --interpolation "
                "(mean and deviation are then ImageNet's)"
            )
        return _checked({"size": size, "crop": crop, "interpolation": interpolation})
    if size is None and crop is None and interpolation is None:
        return stated
    given = {"size": size, "crop": crop, "interpolation": interpolation}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if size is not None or crop is not None:
        changes["resize"] = None  # what is stated belongs to the stated size and crop
    return _checked(msgspec.structs.asdict(stated) | changes)


def _checked(fields: dict[str, Any]) -> Preprocessing:
    try:
        return Preprocessing(**fields)
    except ValueError as error:
        raise BadOption(f"images cannot be prepared so: {error}") from None


def classes_of(model: Backbone, classes: str | None, folders: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The model's classes in the order of its outputs: as the user or the weights say; 1000 outputs are ImageNet-1k's.

    Raises BadOption if nobody says, or the list has another length than the outputs.
    """
    stated = classes or (model.weights.classes if model.weights else None)
    if stated is None and model.num_classes == 1000:
        stated = "imagenet1k"
    if stated is None:
        name = model.weights.name if model.weights else model.name
        raise BadOption(
            f"{name} has {model.num_classes} outputs and does not say which classes they are; "
            "pass --classes imagenette, imagenet1k, folders (the sorted folder names) or a text file with one class a line"
        )
    names = folders if stated == "folders" else class_list(stated)
    if len(names) != model.num_classes:
        raise BadOption(
            f"{model.name} has {model.num_classes} outputs, the class list {len(names)} classes; pass the right one with --classes"
        )
    return names


@contextlib.contextmanager
def progress_bar(title: str, total: int, chief: bool, processes: int) -> Iterator[Callable[[int], None]]:
    """A bar on the terminal of the first process; the others' shares are taken to run alongside."""
    with printing.progress(chief, title, total) as move:
        yield lambda done: move(advance=done * processes)
