"""Functions that several commands share: loading a model, its preprocessing and its classes, its engine, and a progress bar.

Importing this module imports torch, which takes seconds. `cli.networks` has what needs no torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from msgspec import UNSET
from torch import nn

from trickzoo.backbone import Backbone
from trickzoo.classification.model import check_channels
from trickzoo.cli import printing
from trickzoo.cli.networks import Preparation
from trickzoo.data.classes import class_list
from trickzoo.errors import BadOption
from trickzoo.factory import create
from trickzoo.weights.named import is_file
from trickzoo.weights.record import Preprocessing
from trickzoo.wording import count

if TYPE_CHECKING:
    from trickzoo.classification.result import Backend, ExportedFrom
    from trickzoo.deployment.deploy import Images
    from trickzoo.deployment.deployed import Deployed
    from trickzoo.deployment.opened import Exported

CHECKED = 8
"""On how many of the first images the logits of a deployed network are compared with eager's, unless a batch is larger."""


def loaded(model: str, weights: str | None) -> Backbone:
    """Return a model with the given weights, or with its default weight.

    `model` is a model, a weight of a model, or a weight file whose header names its model. The network takes RGB or grey images. Raises the
    errors of `create` and of `check_channels`.
    """
    file = weights is None and is_file(model)
    pretrained = weights is None and not file and "." not in model
    return check_channels(create(model, weights=weights, pretrained=pretrained, in_chans=None))


def preprocessing_of(model: Backbone, given: Preparation = Preparation()) -> Preprocessing:
    """Return the preprocessing that the weights state, with the given values in place of the stated ones.

    Raises BadOption if the weights state no preprocessing and one of the values is not given, or if they are not possible together.
    """
    values = asdict(given)
    stated = model.weights.preprocessing if model.weights else None
    if stated is None:
        if None in values.values():
            name = model.weights.name if model.weights else model.name
            raise BadOption(
                f"{name} does not state its preprocessing; pass --size, --crop and --interpolation "
                "(mean and standard deviation are then those of ImageNet)"
            )
        return _checked(values)
    changes = {name: value for name, value in values.items() if value not in (None, getattr(stated, name))}
    if not changes:
        return stated
    if "size" in changes or "crop" in changes:
        changes["resize"] = None  # the stated value belongs to the stated size and crop
    return _checked(msgspec.structs.asdict(stated) | changes)


def _checked(fields: dict[str, Any]) -> Preprocessing:
    try:
        return Preprocessing(**fields)
    except ValueError as error:
        raise BadOption(f"this preprocessing is not possible: {error}") from None


def classes_of(model: Backbone, classes: str | None, folders: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """Return the names of a model's classes in the order of its outputs.

    Args:
        model: the model.
        classes: the name of a class list, a text file, or "folders" for the names in `folders`. By default the classes of the weights are
            returned, or those of ImageNet-1k for a model with 1000 outputs.
        folders: the names of the class folders of the images; None if the images are not in such folders.

    Raises BadOption if the classes are unknown, or their number is not the number of outputs.
    """
    stated = classes or (model.weights.classes if model.weights else None)
    if stated is None and model.num_classes == 1000:
        stated = "imagenet1k"
    if stated is None or (stated == "folders" and folders is None):
        name = model.weights.name if model.weights else model.name
        fault = "does not state its classes" if stated is None else "there are no class folders here"
        lists = "imagenette, imagenet1k" + ("" if folders is None else ", folders (the sorted folder names)")
        raise BadOption(
            f"{name} has {count(model.num_classes, 'output')} and {fault}; pass --classes {lists} or a text file with one class per line"
        )
    names = folders if stated == "folders" and folders is not None else class_list(stated)
    if len(names) != model.num_classes:
        raise BadOption(
            f"{model.name} has {count(model.num_classes, 'output')}, but the class list has {count(len(names), 'class')}; "
            "pass the right list with --classes"
        )
    return names


def deployed(
    network: nn.Module,
    backend: str,
    precision: str,
    *,
    device: torch.device,
    images: Callable[[], Images | None],
    processes: int = 1,
    **settings: Any,
) -> Deployed | None:
    """Deploy a network to the engine that `--backend` names; None for eager.

    Args:
        network: a classifier or a segmenter.
        backend, precision: the values of `--backend` and `--precision`.
        device: the device of the command.
        images: returns the `images` of `trickzoo.deploy`. It is called after the options are checked.
        processes: the number of processes, each of which deploys the network.
        settings: more arguments of `trickzoo.deploy`.

    Raises BadOption if the backend cannot be used with the device, the precision or the processes, and what `trickzoo.deploy` raises.
    """
    if backend == "eager":
        return None
    from trickzoo.deployment.deploy import deploy

    if device.type != "cpu":
        raise BadOption(f"--backend {backend} runs on a CPU, not on {device}; use --device cpu, or leave --backend out")
    if precision == "fp16":
        raise BadOption(f"--backend {backend} has no fp16 on a CPU; use --precision bf16 or fp32")
    if backend == "auto" and processes > 1:
        raise BadOption("--backend auto would let each process choose for itself; name a backend")
    return deploy(network, backend, precision, images=images(), **settings)  # type: ignore[arg-type]


def backend_of(network: Deployed | Exported | None) -> Backend:
    """Return what a result file states about the engine of a deployed network or an exported file; None is eager."""
    from trickzoo.classification.result import Backend
    from trickzoo.deployment.opened import Exported

    if isinstance(network, Exported):
        return Backend(name=network.engine, deviation=UNSET)
    return Backend() if network is None else Backend(name=network.backend, deviation=network.deviation)


def exported_from(file: Exported) -> ExportedFrom:
    """Return what a result file states about the weights that an exported file was made of."""
    from trickzoo.classification.result import ExportedFrom

    return ExportedFrom(weights=file.description.weights, sha256=file.description.sha256)


def in_words(file: Exported) -> str:
    """Return what an exported file is, and what runs it."""
    description = file.description
    return f"{description.model}, exported from {description.weights}; {description.precision} in {file.engine}"


@contextlib.contextmanager
def progress_bar(title: str, total: int, chief: bool, processes: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on the terminal of the first process, and yield a function that moves it by a number of steps.

    The other processes are assumed to progress equally, so each step counts `processes` times.
    """
    with printing.progress(chief, title, total) as move:
        yield lambda done: move(advance=done * processes)
