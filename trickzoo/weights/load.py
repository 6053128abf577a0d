"""Puts the tensors of an opened weight file into a network, or explains why they do not fit."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pkgutil import resolve_name

import torch
from torch import Tensor, nn

from trickzoo import registry
from trickzoo.backbone import Backbone, init_module
from trickzoo.errors import BadCheckpoint, printable
from trickzoo.registry import Architecture
from trickzoo.weights import convert
from trickzoo.weights.opened import Opened
from trickzoo.wording import count

log = logging.getLogger("trickzoo")

CLASSIFIERS = ("head.fc", "aux_head.fc")


def load(
    opened: Opened,
    architecture: Architecture,
    build: Callable[..., Backbone],
    *,
    in_chans: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Backbone:
    """Build a network and load the tensors of a file into it.

    Args:
        opened: the weight file.
        architecture: the architecture of the network.
        build: called as `build(**options)`, returns the network on the meta device, where it takes no memory.
        in_chans: input channels of the network. Weights of the first convolution for three channels are summed for one channel, else
            repeated and scaled. The response to a grey image stays the same if `in_chans` is 1 or a multiple of 3.
        device, dtype: where the parameters are to be, and their floating point type.

    Returns:
        The network. Names and shapes of all tensors must match, except those of a classifier with another number of classes: it is
        initialised anew, `weights.not_loaded` lists its tensors, and a warning is logged.

    Raises:
        BadCheckpoint: if the tensors do not match, with the first names that differ.
    """
    model = build(**convert.implied_options(architecture, opened.tensors.keys()) | opened.options)
    needed = model.state_dict()
    known = [*dict.fromkeys([*needed, *classifier_keys(architecture)])]
    stated = opened.layout and convert.key_map(architecture, opened.layout, known)
    ours = stated or convert.detected_map(architecture, opened.tensors.keys(), known)
    if ours is None:
        raise BadCheckpoint(misfit(opened, architecture, known))
    state = _fitting(opened, architecture, needed, ours, in_chans)

    held = set(ours.values())
    for key, tensor in needed.items():
        if key not in state and key.endswith(".num_batches_tracked"):  # torch before 0.4.1 did not store this counter
            state[key] = torch.zeros((), dtype=torch.long)
        elif key not in held:  # a bias that networks of this layout do not have
            state[key] = torch.zeros(tensor.shape)
    _put(_with_own_memory(state, device, dtype), model)
    not_loaded = tuple(key for key in needed if key not in state)
    if not_loaded:
        materialise(model, device)
        new, source = count(len(needed["head.fc.weight"]), "class"), printable(opened.weights.name)
        log.warning("%s: %s has no classifier for %s, so the classifier is initialised anew", architecture.name, source, new)
    classes = opened.weights.classes if "head.fc.weight" in state else None
    model.weights = replace(opened.weights, classes=classes, not_loaded=not_loaded)
    return model


def _fitting(
    opened: Opened, architecture: Architecture, needed: Mapping[str, Tensor], ours: Mapping[str, str], in_chans: int
) -> dict[str, Tensor]:
    """Select the file's tensors that the network takes, and return them under the zoo's names.

    `needed` is the state dict of the network, and `ours` maps the names in the file to the zoo's. Raises BadCheckpoint if a tensor is
    missing, unexpected, or has the wrong shape or type.
    """
    state = {ours[key]: tensor for key, tensor in opened.tensors.items() if ours.get(key) in needed}
    stem = next(key for key in needed if key.startswith("stem."))
    if stem in state:
        state[stem] = _for_channels(opened, state[stem], needed[stem], in_chans)
    theirs = {own: key for key, own in ours.items()}
    missing = {key for key in theirs if key in needed and key not in state and not convert.is_optional(key)} | _missing_parts(state, needed)
    for classifier in CLASSIFIERS:
        weight, bias = f"{classifier}.weight", f"{classifier}.bias"
        if {weight, bias} <= needed.keys() & state.keys() and _has_other_classes(state[weight], state[bias], needed[weight]):
            del state[weight], state[bias]

    loaded = [key for key in needed if key in state]
    differences = {
        "missing": [theirs[key] for key in needed if key in missing],
        "unexpected": [key for key in opened.tensors if key not in ours],
        "wrong shape": [theirs[key] for key in loaded if state[key].shape != needed[key].shape],
        "wrong type": [theirs[key] for key in loaded if state[key].is_floating_point() != needed[key].is_floating_point()],
    }
    if any(differences.values()):
        raise BadCheckpoint(_does_not_fit(opened, architecture, differences))
    return state


def _missing_parts(state: Mapping[str, Tensor], needed: Iterable[str]) -> set[str]:
    """Return the missing tensors of classifiers that the file holds in part. A file may lack a whole classifier, but not a part of one."""
    missing = set()
    for head in ("head.", "aux_head."):
        parts = {key for key in needed if key.startswith(head) and not key.endswith(".num_batches_tracked")}
        if parts & state.keys():
            missing |= parts - state.keys()
    return missing


def _has_other_classes(weight: Tensor, bias: Tensor, needed: Tensor) -> bool:
    """Return whether a classifier takes the same number of features as the network's own, but has another number of classes."""
    fits = weight.ndim == 2 and weight.shape[1] == needed.shape[1] and bias.shape == weight.shape[:1]
    return fits and weight.shape[0] != needed.shape[0]


def _for_channels(opened: Opened, weight: Tensor, needed: Tensor, in_chans: int) -> Tensor:
    """Return the weight of the first convolution for `in_chans` input channels.

    Raises BadCheckpoint if the file's weight is neither for `in_chans` nor for three channels.
    """
    if weight.ndim != 4 or weight.shape[1] == in_chans or (weight.shape[0], *weight.shape[2:]) != (needed.shape[0], *needed.shape[2:]):
        return weight
    if weight.shape[1] != 3:
        own = weight.shape[1]
        raise BadCheckpoint(
            f"{opened.weights.name} is for images of {count(own, 'channel')}, the network for {in_chans}; create it with in_chans={own}"
        )
    return adapt_channels(weight.double() if weight.dtype == torch.float64 else weight.float(), in_chans)


def _with_own_memory(state: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the tensors on the device, each contiguous and in memory of its own; floating point tensors are converted to `dtype`."""
    own, end = {}, 0
    for key, tensor in sorted(state.items(), key=lambda item: item[1].data_ptr()):
        shared = tensor.data_ptr() < end
        extent = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True)) + 1
        end = max(end, tensor.data_ptr() + extent * tensor.element_size())
        moved = tensor.to(device, dtype if tensor.is_floating_point() else torch.long).contiguous()
        own[key] = moved.clone() if shared else moved
    return own


def _put(state: Mapping[str, Tensor], model: nn.Module) -> None:
    """Make tensors the parameters and buffers of a network, by their names in its state dict.

    `load_state_dict(…, assign=True)` does the same, and takes longer because it also serves hooks and checks every name again.
    """
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for name, parameter in [*module.named_parameters(recurse=False)]:
            if (tensor := state.get(prefix + name)) is not None:
                setattr(module, name, nn.Parameter(tensor, parameter.requires_grad))
        for name, _ in [*module.named_buffers(recurse=False)]:
            if (tensor := state.get(prefix + name)) is not None:
                setattr(module, name, tensor)


def materialise(model: nn.Module, device: torch.device) -> None:
    """Allocate and initialise, in place, the modules that are still on the meta device."""
    for module in model.modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if any(tensor.is_meta for tensor in own):
            module.to_empty(device=device, recurse=False)
            init_module(module)


def adapt_channels(weight: Tensor, in_chans: int) -> Tensor:
    """Adapt the weight of a convolution from (out, 3, k, k) to (out, in_chans, k, k).

    The channels are summed for one input channel, else repeated and scaled by 3 / in_chans.
    """
    if in_chans == 1:
        return weight.sum(1, keepdim=True)
    repeats = -(-in_chans // weight.shape[1])
    return weight.repeat(1, repeats, 1, 1)[:, :in_chans] * (weight.shape[1] / in_chans)


def classifier_keys(architecture: Architecture) -> list[str]:
    """Return the zoo's names of the classifier tensors that a file may hold even if the network is built without a classifier."""
    keys = ["head.fc.weight", "head.fc.bias"]
    if architecture.family == "inception_v3":
        norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        for conv in ("aux_head.conv0", "aux_head.conv1"):
            keys += [f"{conv}.conv.weight", *(f"{conv}.bn.{name}" for name in norm)]
        keys += ["aux_head.fc.weight", "aux_head.fc.bias"]
    return keys


def misfit(opened: Opened, architecture: Architecture, known: Sequence[str] | None = None) -> str:
    """Return the message for a file that has none of the layouts of an architecture. The file is compared with the nearest of them.

    `known` are the zoo's names of the tensors that the network can have, by default without options.
    """
    tensors, own_shapes = opened.tensors, shapes_of(architecture.name)
    known = known or [*own_shapes, *classifier_keys(architecture)]
    maps = [convert.key_map(architecture, layout, known) for layout in ("trickzoo", *convert.layouts(architecture))]
    nearest = min(maps, key=lambda names: len(names.keys() ^ tensors.keys()))
    present = {key: own for key, own in nearest.items() if key in tensors and own in own_shapes}
    differences = {
        "missing": [key for key, own in nearest.items() if key not in tensors and not convert.is_optional(own)],
        "unexpected": [key for key in tensors if key not in nearest],
        "wrong shape": [key for key, own in present.items() if tensors[key].shape != own_shapes[own]],
    }
    return _does_not_fit(opened, architecture, differences)


def _does_not_fit(opened: Opened, architecture: Architecture, differences: Mapping[str, Sequence[str]]) -> str:
    """Return the message for a file that does not fit: the first tensors of each difference, and the networks that it fits."""
    parts = [
        f"{kind} {', '.join(map(_short, names[:2]))}{f' and {len(names) - 2} more' if len(names) > 2 else ''}"
        for kind, names in differences.items()
        if names
    ]
    fitting = [other.name for other in registry.ARCHITECTURES.values() if other is not architecture and fits(opened, other)]
    guess = f". Its tensors are those of {' or '.join(fitting)}: create that" if fitting else ""
    holders = {"".join(key.partition(".")[:2]) for key in opened.tensors}
    if not fitting and len(holders) == 1 and (holder := holders.pop()).endswith("."):
        guess = f'. All its names begin with "{printable(holder)}": save the state dict of this part of the network alone'
    return f"{opened.weights.name} does not fit {architecture.name}: {'; '.join(parts)}{guess}"


def _short(key: str) -> str:
    return key if len(key) <= 80 else f"{key[:79]}…"


def fits(opened: Opened, architecture: Architecture) -> bool:
    """Return whether the file has the names and shapes of this architecture, with any classifier."""
    own = shapes_of(architecture.name)
    known = [*own, *classifier_keys(architecture)]
    ours = convert.detected_map(architecture, opened.tensors.keys(), known)
    if ours is None:
        return False
    stem = next(key for key in own if key.startswith("stem."))  # its weight may be for any number of input channels
    sizes = {ours[key]: tensor.shape for key, tensor in opened.tensors.items() if ours[key] in own}
    return all(size == own[key] or (key == stem and size[:1] + size[2:] == own[key][:1] + own[key][2:]) for key, size in sizes.items())


def distance(opened: Opened, architecture: Architecture, layout: convert.Layout) -> int:
    """Return how many names of tensors the file or this architecture has and the other has not, plus how many shapes differ."""
    own = shapes_of(architecture.name)
    names = convert.key_map(architecture, layout, [*own, *classifier_keys(architecture)])
    wrong = sum(tensor.shape != own[names[key]] for key, tensor in opened.tensors.items() if names.get(key) in own)
    return (
        wrong
        + len({key for key, ours in names.items() if not convert.is_optional(ours)} - opened.tensors.keys())
        + len(opened.tensors.keys() - names)
    )


@functools.cache
def shapes_of(name: str) -> dict[str, torch.Size]:
    """Return the shape of each tensor of a network without classifier."""
    architecture = registry.find(name)
    model = builder(architecture)(num_classes=0, device="meta", **architecture.options)
    return {key: tensor.shape for key, tensor in model.state_dict().items()}


def built_again(model: Backbone) -> Backbone:
    """Return the network that `trickzoo.create` builds with the options of a network, on the meta device."""
    architecture = registry.find(model.name)
    options = dict(architecture.options) | dict(model.options) | {"output_stride": model.feature_info[-1].stride}
    built = builder(architecture)(num_classes=model.num_classes, in_chans=model.in_chans, device="meta", **options)
    built.name, built.options = model.name, model.options
    return built


def changed(model: Backbone) -> list[str]:
    """Return the tensors that are not as `trickzoo.create` builds them: missing ones, additional ones, and those of another shape."""
    state, built = model.state_dict(), built_again(model).state_dict()
    return [key for key in built | state if key not in built or key not in state or built[key].shape != state[key].shape]


def builder(architecture: Architecture) -> Callable[..., Backbone]:
    """Import and return the callable that builds a network of this architecture."""
    found: Callable[..., Backbone] = resolve_name(architecture.builder)
    return found
