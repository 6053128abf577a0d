"""Converts networks of timm and torchvision to the zoo's and back, or explains why the result would compute something else."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trickzoo import registry
from trickzoo.backbone import Backbone, attribute_with_network, kind_in_words
from trickzoo.errors import NOT_FINITE, BadCheckpoint, BadOption, shortened
from trickzoo.factory import assemble
from trickzoo.modes import evaluating
from trickzoo.registry import Architecture
from trickzoo.weights import convert, load, timm_form
from trickzoo.weights.comparison import INCEPTION_SIDE, SIDE, are_apart, random_image
from trickzoo.weights.loaded import LoadedWeights
from trickzoo.weights.opened import Opened
from trickzoo.weights.record import Layout
from trickzoo.weights.tensors import CLASSIFIERS

log = logging.getLogger("trickzoo")


def from_timm(model: nn.Module) -> Backbone:
    """Return the zoo's network with the tensors of a classifier of timm. It computes the same logits, on the same device.

    The preprocessing and the names of the classes are those in the model's `pretrained_cfg`. A preprocessing that `Preprocessing` cannot
    express is left out, with a warning. Dropout before the classifier and frozen parameters are kept.
    Raises BadCheckpoint if the zoo does not have the network or its logits are not finite, and BadOption if it would compute something
    else, with the difference.
    """
    _check_given(model, "from_timm", "a network of timm")
    stated = getattr(model, "pretrained_cfg", None) or {}
    name = f"timm {stated.get('architecture') or type(model).__name__}"
    try:
        preprocessing, classes = timm_form.read({"pretrained_cfg": stated, "label_names": stated.get("label_names") or ()}, name)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise BadOption(f"{name}: its pretrained_cfg is not in timm's form ({error}); correct it, or set it to {{}}") from None
    imagenet = stated.get("num_classes") == getattr(model, "num_classes", None) == 1000
    weights = replace(
        _described(model, name),
        classes=classes or ("imagenet1k" if imagenet else None),
        preprocessing=preprocessing,
    )
    return _converted(model, weights, "timm")


def from_torchvision(model: nn.Module) -> Backbone:
    """Return the zoo's network with the tensors of a classifier of torchvision. It computes the same logits, on the same device.

    A network of torchvision does not state its preprocessing or its classes. Dropout before the classifier and frozen parameters are kept.
    Raises BadCheckpoint if the zoo does not have the network or its logits are not finite, and BadOption if it would compute something
    else, with the difference.
    """
    _check_given(model, "from_torchvision", "a network of torchvision")
    if getattr(model, "transform_input", False):
        raise BadOption(
            "this Inception V3 rescales its input, which trickzoo's does not; set its transform_input to False, and normalise images with "
            "the mean and standard deviation 0.5"
        )
    return _converted(model, _described(model, f"torchvision {type(model).__name__}"), "torchvision")


def to_timm(model: Backbone) -> nn.Module:
    """Return timm's network with the tensors of a network of the zoo. It computes the same logits, on the same device.

    Its `pretrained_cfg` states the preprocessing and the names of the classes, if the network's weights do. Dropout before the classifier
    and frozen parameters are kept.
    Raises BadOption if timm does not have the network, or its network would compute something else, with the difference, and BadCheckpoint
    if the logits are not finite.
    """
    if not isinstance(model, Backbone):
        _check_given(model, "to_timm", "a network of trickzoo")
        raise BadOption(f"to_timm takes a network of trickzoo, not {kind_in_words(model, '; from_timm and from_torchvision make one')}")
    import timm

    name, arguments = timm_form.network(model)
    if different := load.changed(model):
        raise BadOption(
            f"to_timm: this {model.name} was changed after trickzoo.create, and timm does not have the change ({shortened(different, 3)}); "
            "convert it before the change"
        )
    arguments["drop_rate"] = model.head.drop_rate
    with torch.device("meta"):
        theirs = timm.create_model(name, num_classes=model.num_classes, in_chans=model.in_chans, **arguments)
    state = model.state_dict()
    names = convert.key_map(registry.find(model.name), "timm", state)
    theirs.load_state_dict({key: state[ours].detach().clone() for key, ours in names.items()}, assign=True)
    theirs.train(model.training)
    for key, parameter in theirs.named_parameters():
        parameter.requires_grad_(model.get_parameter(names[key]).requires_grad)
    classes = model.weights.classes if model.weights else None
    labels = {"label_names": classes} if isinstance(classes, tuple) else {}
    stated: Any = {"architecture": name, **timm_form.pretrained_cfg(model), **labels}
    theirs.pretrained_cfg = theirs.default_cfg = stated
    if difference := _difference(model, theirs):
        raise BadOption(f"timm's {name} has the tensors of this {model.name}, but {difference}")
    return theirs


MAKERS = {
    "from_timm": "timm.create_model(NAME)",
    "from_torchvision": "torchvision.models.get_model(NAME)",
    "to_timm": "trickzoo.create(NAME)",
}
"""The call that creates a network which a function takes, by the name of the function."""


def _check_given(model: Any, function: str, wanted: str) -> None:
    """Raise BadOption, with the remedy, unless this is a network that is not wrapped in another module."""
    if not isinstance(model, nn.Module):
        what = "a name" if isinstance(model, str) else "a state dict" if isinstance(model, Mapping) else type(model).__name__
        instead = f"pass {MAKERS[function]}" if isinstance(model, str) else "files of weights are converted by `trickzoo export`"
        raise BadOption(f"{function} takes {wanted}, not {what}; {instead}")
    if isinstance(model, Backbone):
        raise BadOption(f"{function} takes {wanted}, and this {model.name} is one of trickzoo already")
    if attribute_with_network(model) is not None:
        raise BadOption(f"{function} takes {wanted}, not {kind_in_words(model)}")


def _described(model: nn.Module, name: str) -> LoadedWeights:
    """Return the description of a network's tensors, with the SHA-256 of their bytes in the order of their names."""
    digest = hashlib.sha256()
    for _, tensor in sorted(model.state_dict().items()):
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return LoadedWeights(name, Path(name), digest.hexdigest())


def _converted(model: nn.Module, weights: LoadedWeights, layout: Layout) -> Backbone:
    tensors = {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}
    opened = Opened(weights, tensors, None, {})
    _check_classifier(model, opened)
    architecture = _recognised(opened, layout)
    options = timm_form.options(architecture, model)
    if lost := sorted({type(module).__name__ for module in model.modules()} & {"DropPath", "DropBlock2d"}):
        log.warning("%s: left out, because trickzoo does not have it: %s", weights.name, ", ".join(lost))
    strides = [stride for stride in (32, 16, 8) if stride in architecture.output_strides]
    first = next(iter(model.parameters()))
    for stride in strides:
        ours = assemble(
            architecture,
            Opened(weights, tensors, layout, options),
            in_chans=next(t.shape[1] for t in tensors.values() if t.ndim == 4),
            drop_rate=_drop_rate(model),
            output_stride=stride,
            device=first.device,
            dtype=first.dtype,
        )
        difference = _difference(ours, model)
        if difference is None:
            names = convert.key_map(architecture, layout, ours.state_dict())
            for key, parameter in model.named_parameters():
                ours.get_parameter(names[key]).requires_grad_(parameter.requires_grad)
            return ours.train(model.training)
    raise BadOption(f"{weights.name} has the tensors of {architecture.name}, but {difference}")


def _check_classifier(model: nn.Module, opened: Opened) -> None:
    """Raise BadOption, with the remedy, for a network that the zoo has except for its classifier, which is a Sequential."""
    for name in CLASSIFIERS:
        layers = getattr(model, name, None)
        if not isinstance(layers, nn.Sequential):
            continue
        rest = {key: tensor for key, tensor in opened.tensors.items() if not key.startswith(f"{name}.")}
        if not any(load.fits(Opened(opened.weights, rest, None, {}), each) for each in registry.ARCHITECTURES.values()):
            continue
        own = [place for place, layer in layers.named_children() if next(layer.parameters(), None) is not None]
        if len(own) == 1 and isinstance(layers.get_submodule(own[0]), nn.Linear):
            remedy = f"set {name} to {name}[{own[0]}], its only layer with parameters"
        else:
            remedy = f"set {name} to an nn.Linear, and after the conversion head.fc to the Sequential"
        raise BadOption(f"{opened.weights.name}: its classifier, {name}, is a Sequential, and that of trickzoo a linear layer; {remedy}")


def _drop_rate(theirs: nn.Module) -> float:
    """Return the probability of dropout before the classifier of a network of timm or torchvision."""
    for name in ("head_drop", "dropout"):  # the names in the Inception V3 of timm and of torchvision
        if isinstance(layer := getattr(theirs, name, None), nn.Dropout):
            return layer.p
    return float(getattr(theirs, "drop_rate", 0.0))


def _recognised(opened: Opened, layout: Layout) -> Architecture:
    """Return the architecture whose names and shapes the tensors have. Raises BadCheckpoint with the nearest if there is none."""
    distances = {}
    for architecture in registry.ARCHITECTURES.values():
        if load.fits(opened, architecture):
            return architecture
        if layout in convert.layouts(architecture):
            distances[architecture.name] = load.distance(opened, architecture, layout)
    nearest = registry.find(min(distances, key=lambda name: distances[name]))
    raise BadCheckpoint(f"trickzoo does not have this network; the nearest is {nearest.name}, but {load.misfit(opened, nearest)}")


ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.LeakyReLU, nn.Hardswish, nn.ELU, nn.Mish)


def _difference(ours: Backbone, theirs: nn.Module) -> str | None:
    """Return how the logits of two networks differ, None if they are equal for an image of random numbers but for rounding."""
    side = SIDE if ours.name != "inception_v3" else INCEPTION_SIDE if getattr(ours, "aux_head", None) is None else 299
    x = random_image(ours, ours.in_chans, side)
    expected, actual = (_logits(network, x) for network in (theirs, ours))
    if expected is None or actual is None:
        return "returns several feature maps, not logits; create it without features_only"
    if not expected.isfinite().all():
        name = ours.weights.name if ours.weights else ours.name
        raise BadCheckpoint(f"{name} {NOT_FINITE}, or {str(x.dtype).removeprefix('torch.')} cannot hold their range")
    if expected.shape != actual.shape:
        return f"its output has the shape {tuple(expected.shape)}, not {tuple(actual.shape)}"
    if not are_apart(expected, actual, 1e-3):
        return None
    kinds = [{type(module).__name__ for module in network.modules() if isinstance(module, ACTIVATIONS)} for network in (theirs, ours)]
    if kinds[0] != kinds[1]:
        return f"its activation functions are {', '.join(sorted(kinds[0]))}, not {', '.join(sorted(kinds[1]))}"
    most = float((expected - actual).abs().max())
    return f"computes something else with them: its logits differ by up to {most:.2g}, as with another stride, dilation, padding or pooling"


@torch.inference_mode()
def _logits(network: nn.Module, x: Tensor) -> Tensor | None:
    """Return the logits in evaluation mode, None if the network computes a list, and leave it in the mode of each of its modules."""
    with evaluating(network):
        output: Any = network(x)
    return None if isinstance(output, list) else (output[0] if isinstance(output, tuple) else output).float()
