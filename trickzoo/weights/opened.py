"""Opens the weights that `weights=` names: the tensors of a file, with their description, before they are put into a network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from trickzoo.errors import BadCheckpoint, DigestMismatch, printable, shortened
from trickzoo.registry import Architecture
from trickzoo.weights import download, store, timm_form
from trickzoo.weights.header import read_header
from trickzoo.weights.loaded import LoadedWeights
from trickzoo.weights.record import Layout, Record
from trickzoo.weights.tensors import read_tensors


@dataclass(frozen=True)
class Opened:
    """A weight file that has been read.

    Attributes:
        weights: where the file comes from, its classes and its preprocessing.
        tensors: its tensors by their names in the file.
        layout: whose names these are; None if the file has no header and no record.
        options: the options of `trickzoo.create` that the file or its record states.
        in_chans: the number of input channels; 3 unless the header of the file states another one.
        output_stride: the stride of the last feature map; 32 unless the header of the file states another one.
    """

    weights: LoadedWeights
    tensors: dict[str, Tensor]
    layout: Layout | None
    options: dict[str, Any]
    in_chans: int = 3
    output_stride: int = 32


def open_weights(source: Record | Path | str, architecture: Architecture) -> Opened:
    """Open the weights that `named.resolve` found: a record, the path of a file, or an `hf-hub:` reference.

    Raises the errors of `open_record`, `open_file` and `open_hub`.
    """
    if isinstance(source, Record):
        return open_record(source)
    return open_file(source, architecture) if isinstance(source, Path) else open_hub(source, architecture)


def open_record(record: Record) -> Opened:
    """Read one of the zoo's weights, and download it if it is not on this machine.

    Raises DigestMismatch if the file is replaced between its verification and its reading, and WeightsUnavailable if it cannot be had.
    """
    file = store.fetch(record)
    content = read_tensors(file.path)
    if file.identity is not None and content.identity != file.identity:
        raise DigestMismatch(f"{file.path} was replaced after {record.name} had been verified; load it again")
    classes = None if record.classes == "none" else record.classes
    weights = LoadedWeights(record.name, file.path, file.sha256, classes, record.preprocessing, record, file.revision)
    return Opened(weights, _as_zoo(record, content.tensors), record.layout, dict(record.options))


def _as_zoo(record: Record, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a file for a network of the zoo, which takes RGB images and has no bias in its first convolution.

    Other orders of the channels become an order of the weights. A bias before a BatchNorm becomes a shift of its mean, which computes the
    same; the only one is in files of the layout "mmcv" that stem from Caffe.
    """
    if record.channels == "bgr":
        first = next(key for key, tensor in tensors.items() if tensor.ndim == 4 and tensor.shape[1] == 3)
        tensors = tensors | {first: tensors[first].flip(1)}
    if record.layout == "mmcv" and {"conv1.bias", "bn1.running_mean"} <= tensors.keys():
        tensors = tensors | {"bn1.running_mean": tensors["bn1.running_mean"] - tensors["conv1.bias"]}
        del tensors["conv1.bias"]
    return tensors


def open_file(path: Path, architecture: Architecture) -> Opened:
    """Read a user's file.

    The header of a file that trickzoo wrote states its model, layout, options, classes and preprocessing. `load` finds the layout of any
    other file from the names of its tensors. Raises BadCheckpoint if the file cannot be read, or if its header names another model or task.
    """
    tensors, metadata, identity = read_tensors(path)
    own = read_header(path, metadata)
    if own is None:
        return Opened(LoadedWeights(str(path), path, identity=identity), tensors, None, {})
    if own.task != "classification":
        raise BadCheckpoint(
            f"{path} holds a network for {own.task}; load it with trickzoo.{own.task}.load, or name it to `trickzoo eval`, "
            "`trickzoo predict` or `trickzoo export` to .onnx, .xml or .pt2: only a classifier can be used here"
        )
    if own.model != architecture.name:
        raise BadCheckpoint(f"{path} holds {own.model}, not {architecture.name}; create {own.model} to load it")
    weights = LoadedWeights(str(path), path, classes=own.classes, preprocessing=own.preprocessing, training=own.training, identity=identity)
    return Opened(weights, tensors, own.layout, dict(own.options), own.in_chans, own.output_stride)


def open_hub(reference: str, architecture: Architecture) -> Opened:
    """Read `hf-hub:user/name[@revision]`, with preprocessing and classes from its config.json in timm's form.

    Raises WeightsUnavailable if the hub does not give the file, and BadCheckpoint if the file or its config.json cannot be read, or
    if the config.json states arguments of a network that may compute something else.
    """
    path, config, commit = download.fetch_hub_reference(reference)
    opened = open_file(path, architecture)
    try:
        preprocessing, classes = timm_form.read(config, reference)
        record = timm_form.record(config)
        unseen = timm_form.unseen_arguments(config) if opened.layout is None else []  # a header states what trickzoo needs
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise BadCheckpoint(f"{reference}: its config.json is not in timm's form ({error}); {download.OWN_FILE} to use a file") from None
    if unseen:
        raise BadCheckpoint(
            f"{reference} was made with {printable(shortened(unseen))}, which may compute something else; "
            f'trickzoo.from_timm(timm.create_model("{reference}", pretrained=True)) converts it if trickzoo has the network'
        )
    old, sha256 = opened.weights, opened.weights.digest()
    if record is not None and sha256 not in {source.sha256 for source in record.sources}:
        expected = record.sources[0].sha256
        raise DigestMismatch(f"{reference}: {path.name} is not the file of its record: expected SHA-256 {expected}, found {sha256}")
    weights = LoadedWeights(
        reference,
        path,
        sha256,
        old.classes or classes or ("imagenet1k" if config.get("num_classes") == 1000 else None),
        old.preprocessing or preprocessing,
        record,
        revision=commit,
        training=old.training,
    )
    return replace(opened, weights=weights)


def class_count(opened: Opened) -> int | None:
    """Return the number of outputs of the file's classifier, None if it has no classifier.

    Raises BadCheckpoint if the classifier is not a linear layer.
    """
    for layer in ("head.fc", "fc", "classifier"):
        weight, bias = opened.tensors.get(f"{layer}.weight"), opened.tensors.get(f"{layer}.bias")
        if weight is None and bias is not None:
            raise BadCheckpoint(f"{opened.weights.name} holds half a classifier: missing {layer}.weight")
        if weight is not None and (weight.ndim != 2 or weight.numel() == 0):
            raise BadCheckpoint(f"{opened.weights.name}: its classifier has the shape {tuple(weight.shape)}, not (classes, features)")
        if weight is not None:
            return weight.shape[0]
    return None
