"""From a weight, a file or a hub reference to tensors in a model."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from trickzoo import registry
from trickzoo.backbone import Backbone, init_module
from trickzoo.errors import BadCheckpoint, BadOption, DigestMismatch, printable
from trickzoo.files import expanded
from trickzoo.registry import Architecture
from trickzoo.weights import convert, download, manifest, store
from trickzoo.weights.header import read_header
from trickzoo.weights.loaded import LoadedWeights
from trickzoo.weights.record import Layout, Preprocessing, Record
from trickzoo.weights.tensors import read_tensors

log = logging.getLogger("trickzoo")

FILE_SUFFIXES = {".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar"}
CLASSIFIERS = ("head.fc", "aux_head.fc")


@dataclass(frozen=True)
class Opened:
    """A weight file, read but not yet in a model. `layout` and `options` are None and {} until known."""

    weights: LoadedWeights
    tensors: dict[str, Tensor]
    layout: Layout | None
    options: dict[str, Any]


def is_file(reference: str) -> bool:
    """Whether a word names a file. The name of a model or a weight means that, even if a file is called so, which ./NAME names."""
    path = Path(reference)
    if path.suffix in FILE_SUFFIXES or len(path.parts) > 1 or reference.startswith(("./", "~")):
        return True
    if reference in registry.ARCHITECTURES or reference in registry.ALIASES:
        return False
    return path.is_file() and not any(reference in (record.tag, record.name) for record in manifest.records().values())


def open_record(record: Record) -> Opened:
    """Fetch, if need be, and read one of the zoo's weights. Raises DigestMismatch if what is read is not the file that was verified."""
    file = store.fetch(record)
    content = read_tensors(file.path)
    if file.identity is not None and content.identity != file.identity:
        raise DigestMismatch(f"{file.path} was replaced after {record.name} had been verified; load it again")
    classes = None if record.classes == "none" else record.classes
    weights = LoadedWeights(record.name, file.path, file.sha256, classes, record.preprocessing, record, file.revision)
    return Opened(weights, content.tensors, record.layout, dict(record.options))


def open_file(path: Path, architecture: Architecture) -> Opened:
    """Read a file of the user's own. A file that trickzoo wrote says what it is; another's layout is found from its keys."""
    tensors, metadata, identity = read_tensors(path)
    own = read_header(path, metadata)
    if own is None:
        return Opened(LoadedWeights(str(path), path, identity=identity), tensors, None, {})
    if own.task != "classification":
        raise BadCheckpoint(f"{path} holds a network for {own.task}; load it with trickzoo.{own.task}.load")
    if own.model != architecture.name:
        raise BadCheckpoint(f"{path} holds {own.model}, not {architecture.name}; create {own.model} to load it")
    weights = LoadedWeights(str(path), path, classes=own.classes, preprocessing=own.preprocessing, training=own.training, identity=identity)
    return Opened(weights, tensors, own.layout, dict(own.options))


def open_hub(reference: str, architecture: Architecture) -> Opened:
    """Read `hf-hub:user/name[@revision]`; preprocessing and classes come from its config.json, in timm's form."""
    path, config, commit = download.fetch_hub_reference(reference)
    opened = open_file(path, architecture)
    try:
        preprocessing, classes = _from_config(config)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BadCheckpoint(f"{reference}: its config.json is not in timm's form ({error}); pass weights=PATH to use a file") from None
    old = opened.weights
    weights = LoadedWeights(
        reference,
        path,
        old.digest(),
        old.classes or classes or ("imagenet1k" if config.get("num_classes") == 1000 else None),
        old.preprocessing or preprocessing,
        revision=commit,
    )
    return replace(opened, weights=weights)


def _from_config(config: Mapping[str, Any]) -> tuple[Preprocessing | None, tuple[str, ...] | None]:
    """Preprocessing and class names that a config.json in timm's form states."""
    stated = config.get("pretrained_cfg") or {}
    preprocessing = None
    if "input_size" in stated:
        fields = {"crop": "crop_pct", "interpolation": "interpolation", "mean": "mean", "std": "std"}
        given = {ours: stated[theirs] for ours, theirs in fields.items() if theirs in stated}
        preprocessing = msgspec.convert({"size": stated["input_size"][-1], **given}, Preprocessing)
    classes = msgspec.convert(config.get("label_names") or (), tuple[str, ...])
    return preprocessing, classes or None


def class_count(opened: Opened) -> int | None:
    """Outputs of the classifier in the file, None if it has none. Raises BadCheckpoint if it is not a linear layer."""
    for layer in ("head.fc", "fc", "classifier"):
        weight, bias = opened.tensors.get(f"{layer}.weight"), opened.tensors.get(f"{layer}.bias")
        if weight is None and bias is not None:
            raise BadCheckpoint(f"{opened.weights.name} holds half a classifier: missing {layer}.weight")
        if weight is not None and (weight.ndim != 2 or weight.numel() == 0):
            raise BadCheckpoint(f"{opened.weights.name}: its classifier has the shape {tuple(weight.shape)}, not (classes, features)")
        if weight is not None:
            return weight.shape[0]
    return None


def load(
    opened: Opened,
    architecture: Architecture,
    build: Callable[..., Backbone],
    *,
    in_chans: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Backbone:
    """Build the model without memory (`build(**options)` on the meta device) and give it the file's tensors.

    Everything must fit exactly but a classifier of another number of classes, which starts anew, and the stem: weights for three channels
    are summed for one, else repeated and scaled, so that the response to a grey image stays.
    Raises BadCheckpoint with the first keys that differ.
    """
    model = build(**opened.options)
    known = [*dict.fromkeys([*model.state_dict(), *classifier_keys(architecture)])]
    layout = opened.layout or convert.detect_layout(architecture, opened.tensors.keys(), known)
    if layout is None:
        raise BadCheckpoint(_misfit(opened, architecture, known))
    options = convert.implied_options(architecture, layout) | opened.options
    if options != opened.options:
        model = build(**options)
    wanted = model.state_dict()
    ours = convert.key_map(architecture, layout, known)
    state = _fitting(opened, architecture, wanted, ours, known, in_chans)

    for key in wanted:
        if key not in state and key.endswith(".num_batches_tracked"):  # files from before torch 0.4.1 have none
            state[key] = torch.zeros((), dtype=torch.long)
    model.load_state_dict(_with_own_memory(state, device, dtype), strict=False, assign=True)
    materialise(model, device)
    not_loaded = tuple(key for key in wanted if key not in state)
    if not_loaded:
        names = printable(opened.weights.name), ", ".join(not_loaded)
        log.warning("%s: not loaded from %s, initialised anew: %s", architecture.name, *names)
    classes = opened.weights.classes if "head.fc.weight" in state else None
    model.weights = replace(opened.weights, classes=classes, not_loaded=not_loaded)
    return model


def _fitting(
    opened: Opened,
    architecture: Architecture,
    wanted: Mapping[str, Tensor],
    ours: Mapping[str, str],
    known: Sequence[str],
    in_chans: int,
) -> dict[str, Tensor]:
    """The file's tensors that the model takes, under our names; `ours` renames the file's. Raises BadCheckpoint if any is not as wanted."""
    state = {ours[key]: tensor for key, tensor in opened.tensors.items() if ours.get(key) in wanted}
    stem = next(key for key in wanted if key.startswith("stem."))
    if stem in state:
        state[stem] = _for_channels(opened, state[stem], wanted[stem], in_chans)
    missing = {key for key in wanted if key not in state and not convert.is_optional(key)} | _missing_parts(state, wanted)
    for classifier in CLASSIFIERS:
        weight, bias = f"{classifier}.weight", f"{classifier}.bias"
        if {weight, bias} <= wanted.keys() & state.keys() and _is_of_other_classes(state[weight], state[bias], wanted[weight]):
            del state[weight], state[bias]

    theirs = {own: key for key, own in ours.items()}
    spare = [key for key in opened.tensors if key not in ours]
    shapes = [theirs[key] for key in wanted if key in state and state[key].shape != wanted[key].shape]
    types = [theirs[key] for key in wanted if key in state and state[key].is_floating_point() != wanted[key].is_floating_point()]
    if missing or spare or shapes or types:
        raise BadCheckpoint(_misfit(opened, architecture, known, [theirs[key] for key in wanted if key in missing], spare, shapes, types))
    return state


def _missing_parts(state: Mapping[str, Tensor], wanted: Iterable[str]) -> set[str]:
    """What a classifier lacks that the file holds in part: it may lack a classifier, but not half of one."""
    missing = set()
    for head in ("head.", "aux_head."):
        parts = {key for key in wanted if key.startswith(head) and not key.endswith(".num_batches_tracked")}
        if parts & state.keys():
            missing |= parts - state.keys()
    return missing


def _is_of_other_classes(weight: Tensor, bias: Tensor, wanted: Tensor) -> bool:
    """Whether this is a classifier on the same features as the wanted one, of another number of classes."""
    fits = weight.ndim == 2 and weight.shape[1] == wanted.shape[1] and bias.shape == weight.shape[:1]
    return fits and weight.shape[0] != wanted.shape[0]


def _for_channels(opened: Opened, weight: Tensor, wanted: Tensor, in_chans: int) -> Tensor:
    """The first convolution for `in_chans` input channels. Raises BadCheckpoint if it is for neither these nor three."""
    if weight.ndim != 4 or weight.shape[1] == in_chans or (weight.shape[0], *weight.shape[2:]) != (wanted.shape[0], *wanted.shape[2:]):
        return weight
    if weight.shape[1] != 3:
        own = weight.shape[1]
        raise BadCheckpoint(
            f"{opened.weights.name} is for images of {own} {'channel' if own == 1 else 'channels'}, "
            f"the network for {in_chans}; create it with in_chans={own}"
        )
    return adapt_channels(weight.double() if weight.dtype == torch.float64 else weight.float(), in_chans)


def _with_own_memory(state: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors on their device, floating point ones in `dtype`, each contiguous and in memory that it shares with no other."""
    own, end = {}, 0
    for key, tensor in sorted(state.items(), key=lambda item: item[1].data_ptr()):
        shared = tensor.data_ptr() < end
        extent = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True)) + 1
        end = max(end, tensor.data_ptr() + extent * tensor.element_size())
        moved = tensor.to(device, dtype if tensor.is_floating_point() else torch.long).contiguous()
        own[key] = moved.clone() if shared else moved
    return own


def materialise(model: nn.Module, device: torch.device) -> None:
    """Give memory and initial values to the modules that are still on the meta device."""
    for module in model.modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if any(tensor.is_meta for tensor in own):
            module.to_empty(device=device, recurse=False)
            init_module(module)


def adapt_channels(weight: Tensor, in_chans: int) -> Tensor:
    """(out, 3, k, k) → (out, in_chans, k, k): summed for one channel, else repeated and scaled by 3 / in_chans."""
    if in_chans == 1:
        return weight.sum(1, keepdim=True)
    repeats = -(-in_chans // weight.shape[1])
    return weight.repeat(1, repeats, 1, 1)[:, :in_chans] * (weight.shape[1] / in_chans)


def classifier_keys(architecture: Architecture) -> list[str]:
    """Our names of the classifiers that a file may hold though the model does without."""
    keys = ["head.fc.weight", "head.fc.bias"]
    if architecture.family == "inception_v3":
        norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        for conv in ("aux_head.conv0", "aux_head.conv1"):
            keys += [f"{conv}.conv.weight", *(f"{conv}.bn.{name}" for name in norm)]
        keys += ["aux_head.fc.weight", "aux_head.fc.bias"]
    return keys


def _misfit(
    opened: Opened,
    architecture: Architecture,
    known: Sequence[str],
    missing: Sequence[str] | None = None,
    spare: Sequence[str] | None = None,
    shapes: Sequence[str] = (),
    types: Sequence[str] = (),
) -> str:
    """One message for a file of another architecture: the first keys that differ, and what it may be instead."""
    keys = opened.tensors.keys()
    if missing is None or spare is None:  # no layout fits: compare with the nearest one
        maps = [convert.key_map(architecture, layout, known) for layout in ("trickzoo", *convert.layouts(architecture))]
        nearest = min(maps, key=lambda names: len(names.keys() ^ keys))
        missing = [key for key, own in nearest.items() if key not in keys and not convert.is_optional(own)]
        spare = [key for key in keys if key not in nearest]
    parts = [
        f"{word} {', '.join(map(_short, names[:2]))}{f' and {len(names) - 2} more' if len(names) > 2 else ''}"
        for word, names in (("missing", missing), ("unexpected", spare), ("of another shape", shapes), ("of another type", types))
        if names
    ]
    looks = [other.name for other in registry.ARCHITECTURES.values() if other is not architecture and _fits(opened, other)]
    guess = f". Its tensors are those of {' or '.join(looks)}: create that" if looks else ""
    return f"{opened.weights.name} does not fit {architecture.name}: {'; '.join(parts)}{guess}"


def _short(key: str) -> str:
    return key if len(key) <= 80 else f"{key[:79]}…"


def _fits(opened: Opened, architecture: Architecture) -> bool:
    own = _shapes(architecture.name)
    known = [*own, *classifier_keys(architecture)]
    layout = convert.detect_layout(architecture, opened.tensors.keys(), known)
    if layout is None:
        return False
    ours = convert.key_map(architecture, layout, known)
    return all(tensor.shape == own[ours[key]] for key, tensor in opened.tensors.items() if ours[key] in own)


@functools.cache
def _shapes(name: str) -> dict[str, torch.Size]:
    """Shape of each tensor of a network without classifier."""
    architecture = registry.find(name)
    model = builder(architecture)(num_classes=0, device="meta", **architecture.options)
    return {key: tensor.shape for key, tensor in model.state_dict().items()}


def builder(architecture: Architecture) -> Callable[..., Backbone]:
    """The callable that makes the network."""
    module, _, attribute = architecture.builder.partition(":")
    return getattr(import_module(module), attribute)


def open_weights(reference: str, architecture: Architecture) -> Opened:
    """What `weights=` means: an `hf-hub:` reference, a file, or a tag of the architecture."""
    if reference.startswith("hf-hub:"):
        return open_hub(reference, architecture)
    if is_file(reference):
        return open_file(expanded(reference), architecture)
    if "." not in reference:
        return open_record(manifest.choose(architecture.name, reference))
    record = manifest.find(reference)
    if record.model != architecture.name:
        raise BadOption(f"{reference} is a weight of {record.model}, not of {architecture.name}; create {record.model}")
    return open_record(record)
