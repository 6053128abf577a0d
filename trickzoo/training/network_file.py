"""Weight files of detectors and segmenters, whose headers hold everything needed to build the network again."""

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
from trickzoo.weights.download import fetch_hub_reference
from trickzoo.weights.header import FileMetadata, read_header
from trickzoo.weights.loaded import LoadedWeights
from trickzoo.weights.named import existing
from trickzoo.weights.opened import Opened
from trickzoo.weights.record import METADATA_KEY, Preprocessing

AnnotatedRecipe = DetectionRecipe | SegmentationRecipe
R = TypeVar("R", DetectionRecipe, SegmentationRecipe)


class Trunked(Protocol):
    """A network that has a backbone, in its attribute `trunk`."""

    @property
    def trunk(self) -> Backbone: ...

    def state_dict(self) -> dict[str, Any]: ...


def save(model: Trunked, recipe: AnnotatedRecipe, classes: Sequence[str], path: Path, training: dict[str, Any]) -> None:
    """Write a detector or a segmenter to a file from which it can be built again.

    Args:
        model: the network.
        recipe: recipe that the network was built by.
        classes: names of the classes, without the background of a detector.
        path: the file, whose name ends in .safetensors.
        training: description of the training for the header of the file; its "recipe" is `plain(recipe)`.

    Raises NotWritten if the disk refuses.
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
    """Read a file that `save` wrote, or that of an `hf-hub:` reference, and return its weights with the backbone's options, and its recipe.

    Raises BadCheckpoint if the file is damaged or does not hold a network of the kind of recipe, and UnknownName or BadOption if trickzoo
    cannot build its backbone.
    """
    path = fetch_hub_reference(str(path))[0] if str(path).startswith("hf-hub:") else existing(path)
    read = tensors.read_tensors(path)
    own, remedy = read_header(path, read.metadata), f"name a file that trickzoo-finetune wrote for {kind.task}"
    if own is None:
        raise BadCheckpoint(f"{path} has no header that names its network; {remedy}")
    if own.task != kind.task:
        raise BadCheckpoint(f"{path} is for {own.task}, not for {kind.task}; {remedy}")
    content = (own.training or {}).get("recipe")
    if not isinstance(content, dict) or own.classes is None:
        raise BadCheckpoint(f"{path}: its header lacks the recipe or the classes; {remedy}")
    try:
        recipe = from_plain(content, kind)
    except BadOption as error:
        raise BadCheckpoint(f"{path}: its recipe cannot be read ({error}); {remedy}") from None
    check_options(registry.find(own.model), own.options, f"{path}: ")
    classes = (own.classes,) if isinstance(own.classes, str) else own.classes
    weights = LoadedWeights(
        str(path), path, classes=classes, preprocessing=own.preprocessing, training=own.training, identity=read.identity
    )
    # the header's name of the model: the one in the recipe may end in a tag, whose weights would be downloaded in vain
    return Opened(weights, read.tensors, own.layout, dict(own.options)), replace(recipe, model=own.model)


def restore(model: nn.Module, opened: Opened) -> None:
    """Load the tensors that `open_file` returned into a network. Raises BadCheckpoint if they do not fit."""
    try:
        model.load_state_dict(opened.tensors)
    except RuntimeError as error:
        raise BadCheckpoint(f"{opened.weights.path} does not fit its recipe: {' '.join(str(error).split())[:200]}") from None
