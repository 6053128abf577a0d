"""From a weight, a file or a hub reference to tensors in a model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from trickzoo import files, registry
from trickzoo.backbone import Backbone, init_module
from trickzoo.errors import BadCheckpoint, BadOption
from trickzoo.registry import Architecture
from trickzoo.weights import convert, download, manifest, store
from trickzoo.weights.convert import METADATA_KEY
from trickzoo.weights.record import Layout, Preprocessing, Record

log = logging.getLogger("trickzoo")

FILE_SUFFIXES = {".safetensors", ".pth", ".pt", ".bin", ".ckpt"}


class FileMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What trickzoo writes into the header of a weight file, and into a checkpoint, under the key "trickzoo"."""

    model: str
    task: str = "classification"
    layout: Layout = "trickzoo"
    options: dict[str, str | bool] = {}
    classes: str | tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    source: str | None = None
    training: dict[str, Any] | None = None


@dataclass(frozen=True)
class LoadedWeights:
    """What a model's weights are.

    Attributes:
        name: `<model>.<tag>`, the path of a file, or an `hf-hub:` reference.
        sha256: digest of the file; None for a file of the user's own, until asked for with `digest()`.
        classes: name of the class list ("imagenet1k"), or the classes themselves in order; None if the file does not say, or the model's
            classifier is not the file's.
        preprocessing: how to prepare an image for it; None if the file does not say.
        record: the manifest's record, if it is one of the zoo's weights.
        not_loaded: parameters and buffers of the model that the file did not give.
        training: the recipe, seed and what else made the weights, if the file says.
    """

    name: str
    path: Path
    sha256: str | None = None
    classes: str | tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    record: Record | None = None
    revision: str | None = None
    not_loaded: tuple[str, ...] = ()
    training: dict[str, Any] | None = None

    def digest(self) -> str:
        """SHA-256 of the file."""
        return self.sha256 or files.digest(self.path)


@dataclass(frozen=True)
class Opened:
    """A weight file, read but not yet in a model. `layout` and `options` are None and {} until known."""

    weights: LoadedWeights
    tensors: dict[str, Tensor]
    layout: Layout | None
    options: dict[str, Any]


def is_file(reference: str) -> bool:
    """Whether `weights=` names a file rather than a tag."""
    path = Path(reference)
    return path.suffix in FILE_SUFFIXES or len(path.parts) > 1 or path.is_file()


def open_record(record: Record) -> Opened:
    """Fetch, if need be, and read one of the zoo's weights."""
    file = store.fetch(record)
    tensors, _ = convert.read_tensors(file.path)
    classes = None if record.classes == "none" else record.classes
    weights = LoadedWeights(record.name, file.path, file.sha256, classes, record.preprocessing, record, file.revision)
    return Opened(weights, tensors, record.layout, dict(record.options))


def read_header(path: Path, metadata: Mapping[str, str]) -> FileMetadata | None:
    """What trickzoo wrote into a file's header, None in a file of others. Raises BadCheckpoint if it cannot be read."""
    if METADATA_KEY not in metadata:
        return None
    try:
        return msgspec.json.decode(metadata[METADATA_KEY], type=FileMetadata)
    except msgspec.DecodeError as error:
        raise BadCheckpoint(f"{path}: its trickzoo header cannot be read ({error})") from None


def open_file(path: Path, architecture: Architecture) -> Opened:
    """Read a file of the user's own. A file that trickzoo wrote says what it is; another's layout is found from its keys."""
    tensors, metadata = convert.read_tensors(path)
    own = read_header(path, metadata)
    if own is None:
        return Opened(LoadedWeights(str(path), path), tensors, None, {})
    if own.task != "classification":
        raise BadCheckpoint(f"{path} holds a network for {own.task}; load it with trickzoo.{own.task}.load")
    if own.model != architecture.name:
        raise BadCheckpoint(f"{path} holds {own.model}, not {architecture.name}; create {own.model} to load it")
    weights = LoadedWeights(str(path), path, classes=own.classes, preprocessing=own.preprocessing, training=own.training)
    return Opened(weights, tensors, own.layout, dict(own.options))


def model_of(path: Path) -> str:
    """Name of the model in a weight file or checkpoint that trickzoo wrote. Raises BadCheckpoint if the file does not say."""
    _, metadata = convert.read_tensors(path)
    own = read_header(path, metadata)
    if own is None:
        raise BadCheckpoint(f"{path} does not say which model it holds; write it with `trickzoo export`")
    return own.model


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
        files.digest(path),
        old.classes or classes or ("imagenet1k" if config.get("num_classes") == 1000 else None),
        old.preprocessing or preprocessing,
        revision=commit,
    )
    return Opened(weights, opened.tensors, opened.layout, opened.options)


def _from_config(config: Mapping[str, Any]) -> tuple[Preprocessing | None, tuple[str, ...] | None]:
    """Preprocessing and class names that a config.json in timm's form states."""
    stated = config.get("pretrained_cfg") or {}
    preprocessing = None
    if "input_size" in stated:
        fields = {"crop": "crop_pct", "interpolation": "interpolation", "mean": "mean", "std": "std"}
        given = {ours: stated[theirs] for ours, theirs in fields.items() if theirs in stated}
        preprocessing = msgspec.convert({"size": stated["input_size"][-1], **given}, Preprocessing)
    return preprocessing, tuple(config["label_names"]) if config.get("label_names") else None


def class_count(opened: Opened) -> int | None:
    """Outputs of the classifier in the file, None if it has none."""
    names = ["head.fc.weight", "fc.weight", "classifier.weight"]
    found = [opened.tensors[name] for name in names if name in opened.tensors]
    return found[0].shape[0] if found else None


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

    Everything must fit exactly but a classifier of another size, which starts anew, and a stem for other than three channels, which is
    made from the file's: summed for one channel, else repeated and scaled, so that the response to a grey image stays.
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
    state = {ours[key]: tensor for key, tensor in opened.tensors.items() if ours.get(key) in wanted}
    for key in [key for key in state if key.startswith(("head.", "aux_head.fc.")) and state[key].shape != wanted[key].shape]:
        del state[key]
    stem = next(key for key in wanted if key.startswith("stem."))
    if stem in state and in_chans != state[stem].shape[1]:
        state[stem] = adapt_channels(state[stem], in_chans)

    theirs = {own: key for key, own in ours.items()}
    missing = [theirs[key] for key in wanted if key not in state and not convert.is_optional(key)]
    spare = [key for key in opened.tensors if key not in ours]
    shapes = [theirs[key] for key in wanted if key in state and state[key].shape != wanted[key].shape]
    if missing or spare or shapes:
        raise BadCheckpoint(_misfit(opened, architecture, known, missing, spare, shapes))

    for key in wanted:
        if key not in state and key.endswith(".num_batches_tracked"):  # files from before torch 0.4.1 have none
            state[key] = torch.zeros((), dtype=torch.long)
    state = {key: t.to(device, dtype if t.is_floating_point() else t.dtype) for key, t in state.items()}
    model.load_state_dict(state, strict=False, assign=True)
    materialise(model, device)
    not_loaded = tuple(key for key in wanted if key not in state)
    if not_loaded:
        log.warning("%s: not loaded from %s, initialised anew: %s", architecture.name, opened.weights.name, ", ".join(not_loaded))
    classes = opened.weights.classes if "head.fc.weight" in state else None
    model.weights = replace(opened.weights, classes=classes, not_loaded=not_loaded)
    return model


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
) -> str:
    """One message for a file of another architecture: the first keys that differ, and what it may be instead."""
    keys = opened.tensors.keys()
    if missing is None or spare is None:  # no layout fits: compare with the nearest one
        maps = [convert.key_map(architecture, layout, known) for layout in ("trickzoo", *convert.layouts(architecture))]
        nearest = min(maps, key=lambda names: len(names.keys() ^ keys))
        missing = [key for key, own in nearest.items() if key not in keys and not convert.is_optional(own)]
        spare = [key for key in keys if key not in nearest]
    parts = [
        f"{word} {', '.join(names[:2])}{f' and {len(names) - 2} more' if len(names) > 2 else ''}"
        for word, names in (("missing", missing), ("unexpected", spare), ("of another shape", shapes))
        if names
    ]
    looks = [other.name for other in registry.ARCHITECTURES.values() if other is not architecture and _fits(opened, other)]
    guess = f". Its tensors are those of {' or '.join(looks)}: create that" if looks else ""
    return f"{opened.weights.name} does not fit {architecture.name}: {'; '.join(parts)}{guess}"


def _fits(opened: Opened, architecture: Architecture) -> bool:
    own = builder(architecture)(num_classes=0, device="meta", **architecture.options).state_dict()
    known = [*own, *classifier_keys(architecture)]
    layout = convert.detect_layout(architecture, opened.tensors.keys(), known)
    if layout is None:
        return False
    ours = convert.key_map(architecture, layout, known)
    return all(tensor.shape == own[ours[key]].shape for key, tensor in opened.tensors.items() if ours[key] in own)


def builder(architecture: Architecture) -> Callable[..., Backbone]:
    """The callable that makes the network."""
    module, _, attribute = architecture.builder.partition(":")
    return getattr(import_module(module), attribute)


def open_weights(reference: str, architecture: Architecture) -> Opened:
    """What `weights=` means: an `hf-hub:` reference, a file, or a tag of the architecture."""
    if reference.startswith("hf-hub:"):
        return open_hub(reference, architecture)
    if is_file(reference):
        return open_file(Path(reference).expanduser(), architecture)
    if "." not in reference:
        return open_record(manifest.choose(architecture.name, reference))
    record = manifest.find(reference)
    if record.model != architecture.name:
        raise BadOption(f"{reference} is a weight of {record.model}, not of {architecture.name}; create {record.model}")
    return open_record(record)


def header(model: Backbone, training: dict[str, Any] | None = None) -> dict[str, str]:
    """The metadata of a file that holds this model's tensors in our layout; `training` is the recipe and what else made them."""
    weights = model.weights
    own = FileMetadata(
        model=model.name,
        options=dict(model.options),
        classes=weights.classes if weights else None,
        preprocessing=weights.preprocessing if weights else None,
        source=weights.name if weights and weights.record else None,
        training=training or (weights.training if weights else None),
    )
    return {METADATA_KEY: msgspec.json.encode(own).decode()}


def task_of(path: Path) -> str:
    """What the network in a weight file is for: "detection", "segmentation", or "classification", also where the file does not say."""
    _, metadata = convert.read_tensors(path)
    own = read_header(path, metadata)
    return own.task if own else "classification"
