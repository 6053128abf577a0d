"""Weight files of detectors and segmenters, whose headers hold everything needed to build the network again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor

from trickzoo import registry
from trickzoo.backbone import Backbone, kind_in_words
from trickzoo.data.transforms import Normalisation
from trickzoo.errors import BadCheckpoint, BadOption
from trickzoo.factory import check_options
from trickzoo.recipes.collection import from_dict, to_dict
from trickzoo.recipes.finetune import DetectionRecipe, SegmentationRecipe
from trickzoo.weights import named, tensors
from trickzoo.weights.comparison import check_as_built, other_layers
from trickzoo.weights.download import fetch_hub_reference
from trickzoo.weights.export import check_classes, check_new
from trickzoo.weights.header import FileMetadata, encoded, of_file, read_header
from trickzoo.weights.loaded import LoadedWeights
from trickzoo.weights.named import existing
from trickzoo.weights.opened import Opened
from trickzoo.weights.record import Preprocessing

if TYPE_CHECKING:
    from typing_extensions import Self

log = logging.getLogger("trickzoo")

STRUCTURE = ("model", "neck", "fpn_channels", "representation_size", "anchors", "head", "aux")
"""The fields of recipes that determine the names and shapes of a network's tensors."""

AnnotatedRecipe = DetectionRecipe | SegmentationRecipe
R = TypeVar("R", DetectionRecipe, SegmentationRecipe)


class AnnotatedNetwork(Protocol):
    """A detector or a segmenter.

    Its attribute `trunk` is its backbone, and `class_layers` has the names of the layers whose outputs depend on the classes.
    """

    classes: tuple[str, ...]
    recipe: Any

    @property
    def trunk(self) -> Backbone: ...

    @property
    def class_layers(self) -> tuple[str, ...]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...

    def eval(self) -> Self: ...


N = TypeVar("N", bound=AnnotatedNetwork)


def save(model: AnnotatedNetwork, recipe: AnnotatedRecipe, classes: Sequence[str], path: Path, training: dict[str, Any]) -> None:
    """Write a detector or a segmenter to a file, whose name ends in .safetensors. The other arguments are those of `header`.

    Raises NotWritten if the file cannot be written.
    """
    tensors.save_atomically(model.state_dict(), path, header(model, recipe, classes, training))


def header(model: AnnotatedNetwork, recipe: AnnotatedRecipe, classes: Sequence[str], training: dict[str, Any]) -> dict[str, str]:
    """Return the metadata of a file from which a detector or a segmenter can be built again.

    Args:
        model: the network.
        recipe: recipe that the network was built by.
        classes: names of the classes, without the background of a detector.
        training: description of the training; its "recipe" is `to_dict(recipe)`.
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
    return encoded(own)


def save_own(
    model: AnnotatedNetwork,
    path: str | PathLike[str],
    recipe: AnnotatedRecipe,
    again: AnnotatedNetwork,
    classes: Sequence[str] | None,
    outputs: str,
    number: int,
    overwrite: bool,
    raw_outputs: Callable[[Any], Iterable[Tensor]],
) -> None:
    """Write a detector or a segmenter that was trained in a user's own loop to a file that `load` reads.

    Args:
        model: the network.
        path: the file, whose name ends in .safetensors.
        recipe: a recipe that builds the network.
        again: the network that it builds.
        classes: names of the classes, without the background of a detector; None for those of the file that the network comes from.
        outputs: what there is one name for, in words.
        number: number of the classes.
        overwrite: whether to replace the file if it exists.
        raw_outputs: returns what the layers of a network give for random input, before it is processed further.

    Raises BadOption if the file exists, if the classes are not as many, or if the network has other layers than `again` or computes
    something else with them, and NotWritten.
    """
    file = check_new(path, (".safetensors",), overwrite)
    names = model.classes if classes is None else classes
    check_classes(f"this {recipe.task} network", outputs, number, names)
    own, built = ({key: tuple(value.shape) for key, value in each.state_dict().items()} for each in (model, again))
    if different := [key for key in own.keys() | built.keys() if own.get(key) != built.get(key)]:
        raise other_layers(own, min(different), "network that trickzoo builds")
    check_as_built(model, again, raw_outputs, f"{recipe.task} network", "trickzoo")
    save(model, recipe, names, file, {"recipe": to_dict(recipe)})


def check_kind(model: Any, kind: type, name: str) -> None:
    """Raise BadOption unless the model, such as a wrapper of the network, is of this kind. `name` names the kind in words."""
    if not isinstance(model, kind):
        raise BadOption(f"save takes {name} of trickzoo, not {kind_in_words(model)}")


@torch.random.fork_rng(devices=[])  # the random values of the new network are replaced
def load(path: str | PathLike[str], kind: type[R], build: Callable[[R, int, None, Mapping[str, Any]], N], **sides: int | None) -> N:
    """Load a network from a file that `save` wrote, a checkpoint, or the file of an `hf-hub:` reference, in evaluation mode.

    Args:
        path: the file or the reference.
        kind: class of the recipe of the task.
        build: builds the network of a recipe, for a number of classes, with no weights and with the options of the backbone.
        sides: image sides in pixels that replace those of the recipe, unless they are None.

    Raises BadCheckpoint if the file is damaged, has weights that are not finite, or does not hold a network of the kind of recipe,
    UnknownName or BadOption if trickzoo cannot build its backbone, and what `build` raises.
    """
    opened, recipe = _open(Path(path), kind)
    given: dict[str, Any] = {name: side for name, side in sides.items() if side is not None}
    recipe = replace(recipe, **given)
    weights = opened.weights
    assert isinstance(weights.classes, tuple)
    model = build(recipe, len(weights.classes), None, opened.options)
    _fill(model, opened.tensors, weights)
    model.classes, model.recipe = weights.classes, recipe
    return model.eval()


def start(recipe: R, classes: Sequence[str], build: Callable[[R, int, None, Mapping[str, Any]], N]) -> N | None:
    """Build the network of a recipe with the tensors of its `weights`, if these are a detector or a segmenter.

    The class-dependent layers are initialised anew, with a warning, unless the file has the same classes in the same order.

    Args:
        recipe: the recipe of the training.
        classes: names of the classes of the images.
        build: as of `load`.

    Returns:
        The network in training mode; None if the recipe names no weights, or only those of a backbone.

    Raises BadCheckpoint if the file is for the other task or has another network than the recipe, and what `load` raises.
    """
    if recipe.weights is None or recipe.weights == "default":
        return None
    architecture, source = named.resolve(recipe.model, weights=recipe.weights)
    if not isinstance(source, str | Path):
        return None
    path = fetch_hub_reference(source)[0] if isinstance(source, str) else source
    own = of_file(path)
    if own is None or own.task == "classification":
        return None
    opened, theirs = _open(path, type(recipe))
    pairs = {name: (getattr(theirs, name), getattr(recipe, name)) for name in STRUCTURE if hasattr(recipe, name)}
    pairs["model"] = theirs.model, architecture.name
    differ = ", ".join(f"{name} is {there} there, {here} here" for name, (there, here) in pairs.items() if there != here)
    misfit = differ and f"{path} has another network than the recipe ({differ}); --recipe {path} builds that of the file"
    if theirs.model != architecture.name:
        raise BadCheckpoint(misfit)
    model = build(recipe, len(classes), None, opened.options)
    layers = tuple(f"{name}." for name in model.class_layers) if opened.weights.classes != tuple(classes) else ()
    kept = {name: tensor for name, tensor in opened.tensors.items() if not name.startswith(layers)}
    new = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(layers)}
    _fill(model, kept | new, opened.weights, misfit)
    if layers:
        anew = "%s: the classes of %s differ from those of the data, so the layers that predict them are initialised anew"
        log.warning(anew, architecture.name, recipe.weights)
    return model


def _fill(model: AnnotatedNetwork, state: Mapping[str, Any], weights: LoadedWeights, misfit: str = "") -> None:
    """Load the tensors of a file into a network. Raises BadCheckpoint, with the message `misfit` if given, if they do not fit."""
    where = next(model.trunk.parameters()).device
    try:
        model.load_state_dict({name: tensor.to(where) for name, tensor in state.items()})
    except RuntimeError as error:
        raise BadCheckpoint(misfit or f"{weights.path} does not fit its recipe: {' '.join(str(error).split())[:200]}") from None
    tensors.check_finite(model.state_dict(), weights.path)  # a detector would find nothing, and a segmenter one class everywhere
    model.trunk.weights = weights


def _open(path: Path, kind: type[R]) -> tuple[Opened, R]:
    """Read a file, and return its weights with the backbone's options, and its recipe."""
    path = fetch_hub_reference(str(path))[0] if str(path).startswith("hf-hub:") else existing(path)
    read = tensors.read_tensors(path)
    own, remedy = read_header(path, read.metadata), f"name a file that `trickzoo finetune` wrote for {kind.task}"
    if own is None:
        raise BadCheckpoint(f"{path} has no header that names its network; {remedy}")
    if own.task != kind.task:
        raise BadCheckpoint(f"{path} is for {own.task}, not for {kind.task}; {remedy}")
    content = (own.training or {}).get("recipe")
    if not isinstance(content, dict) or own.classes is None:
        raise BadCheckpoint(f"{path}: its header lacks the recipe or the classes; {remedy}")
    try:
        recipe = from_dict(content, kind)
    except BadOption as error:
        raise BadCheckpoint(f"{path}: its recipe cannot be read ({error}); {remedy}") from None
    check_options(registry.find(own.model), own.options, f"{path}: ")
    classes = (own.classes,) if isinstance(own.classes, str) else own.classes
    weights = LoadedWeights(
        str(path), path, classes=classes, preprocessing=own.preprocessing, training=own.training, identity=read.identity
    )
    # the model in the recipe may end in a tag, whose weights would be downloaded for nothing; the header's has no tag
    return Opened(weights, read.tensors, own.layout, dict(own.options)), replace(recipe, model=own.model)
