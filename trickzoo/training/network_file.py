"""A fine-tuned network in a weight file, with what it takes to build it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
from torch import nn

from trickzoo import registry
from trickzoo.backbone import Backbone
from trickzoo.data.transforms import Normalisation
from trickzoo.errors import BadCheckpoint, BadOption
from trickzoo.factory import check_options
from trickzoo.recipes.collection import from_plain
from trickzoo.recipes.finetune import DetectionRecipe, SegmentationRecipe
from trickzoo.weights import tensors
from trickzoo.weights.header import FileMetadata, read_header
from trickzoo.weights.loaded import LoadedWeights
from trickzoo.weights.opened import Opened
from trickzoo.weights.record import METADATA_KEY, Preprocessing

AnnotatedRecipe = DetectionRecipe | SegmentationRecipe
R = TypeVar("R", DetectionRecipe, SegmentationRecipe)


class Trunked(Protocol):
    """A network on a backbone."""

    @property
    def trunk(self) -> Backbone: ...

    def state_dict(self) -> dict[str, Any]: ...


def save(model: Trunked, recipe: AnnotatedRecipe, classes: Sequence[str], path: Path, training: dict[str, Any]) -> None:
    """Write a detector or a segmenter with all that it takes to build it again.

    Args:
        model: the network.
        recipe: what it was built by.
        classes: names of its classes; of a detector without the background.
        path: the file, ending in .safetensors.
        training: what the file's header says of the training; its "recipe" is `plain(recipe)`.

    Raises OSError if the disk refuses.
    """
    backbone = model.trunk
    normalisation = Normalisation.of(backbone)
    own = FileMetadata(
        model=backbone.name,
        task=recipe.task,
        options=dict(backbone.options),
        classes=tuple(classes),
        preprocessing=Preprocessing(mean=normalisation.mean, std=normalisation.std),
        training=training,
    )
    tensors.save_atomically(model.state_dict(), path, {METADATA_KEY: msgspec.json.encode(own).decode()})


def open_file(path: Path, kind: type[R]) -> tuple[Opened, R]:
    """A file that `save` wrote, and its recipe; the options are the backbone's.

    Raises BadCheckpoint if it is not of such a network, UnknownName or BadOption if its backbone is none of the zoo's.
    """
    read = tensors.read_tensors(path)
    own, remedy = read_header(path, read.metadata), f"name a file that trickzoo-finetune wrote for {kind.task}"
    if own is None:
        raise BadCheckpoint(f"{path} does not say what network it holds; {remedy}")
    if own.task != kind.task:
        raise BadCheckpoint(f"{path} is for {own.task}, not for {kind.task}; {remedy}")
    content = (own.training or {}).get("recipe")
    if not isinstance(content, dict) or own.classes is None:
        raise BadCheckpoint(f"{path} does not say its recipe and its classes; {remedy}")
    try:
        recipe = from_plain(content, kind)
    except BadOption as error:
        raise BadCheckpoint(f"{path}: its recipe cannot be read ({error}); {remedy}") from None
    check_options(registry.find(own.model), own.options, f"{path}: ")
    classes = (own.classes,) if isinstance(own.classes, str) else own.classes
    weights = LoadedWeights(
        str(path), path, classes=classes, preprocessing=own.preprocessing, training=own.training, identity=read.identity
    )
    # by the model's own name: the recipe's may end in a tag, whose weights would be fetched only to be replaced
    return Opened(weights, read.tensors, own.layout, dict(own.options)), replace(recipe, model=own.model)


def restore(model: nn.Module, opened: Opened) -> None:
    """Load the tensors of `open_file`. Raises BadCheckpoint if they do not fit."""
    try:
        model.load_state_dict(opened.tensors)
    except RuntimeError as error:
        raise BadCheckpoint(f"{opened.weights.path} does not fit its recipe: {' '.join(str(error).split())[:200]}") from None
