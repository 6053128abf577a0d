"""Reads `.params` files of GluonCV, the implementation of the paper's authors, and imports classifiers from them.

`detection/gluoncv.py` and `segmentation/gluoncv.py` import the networks of these tasks.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trickzoo import registry
from trickzoo.errors import BadCheckpoint, BadOption
from trickzoo.files import open_regular
from trickzoo.registry import Architecture
from trickzoo.weights import convert, header
from trickzoo.weights.load import shapes_of
from trickzoo.weights.mxnet import read_params
from trickzoo.weights.record import Preprocessing
from trickzoo.weights.tensors import save_atomically
from trickzoo.wording import count


class Published(NamedTuple):
    """A file of GluonCV's model zoo.

    Attributes:
        name: GluonCV's name of the network.
        data: the images on which GluonCV states its metrics.
        metrics: the metrics in percent, under the names that result files use.
    """

    name: str
    data: str
    metrics: Mapping[str, float]


def _on_imagenet(name: str, top1: float, top5: float) -> Published:
    return Published(name, "imagenet1k-val", {"top1": top1, "top5": top5})


# By the first eight digits of the file's SHA-1, as in its name. Sources: GluonCV docs/model_zoo/csv_tables and model_store.py, 56777561.
PUBLISHED = {
    "a0666292": _on_imagenet("resnet18_v1", 70.93, 89.92),
    "48216ba9": _on_imagenet("resnet34_v1", 74.37, 91.87),
    "cc729d95": _on_imagenet("resnet50_v1", 77.36, 93.57),
    "d988c13d": _on_imagenet("resnet101_v1", 78.34, 94.01),
    "acfd0970": _on_imagenet("resnet152_v1", 79.22, 94.64),
    "2d9d980c": _on_imagenet("resnet18_v1b", 70.94, 89.83),
    "8e16b848": _on_imagenet("resnet34_v1b", 74.65, 92.08),
    "0ecdba34": _on_imagenet("resnet50_v1b", 77.67, 93.82),
    "a455932a": _on_imagenet("resnet101_v1b", 79.20, 94.61),
    "a5a61ee1": _on_imagenet("resnet152_v1b", 79.69, 94.74),
    "2a4e0708": _on_imagenet("resnet50_v1c", 78.03, 94.09),
    "064858f2": _on_imagenet("resnet101_v1c", 79.60, 94.75),
    "75babab6": _on_imagenet("resnet152_v1c", 80.01, 94.96),
    "117a384e": _on_imagenet("resnet50_v1d", 79.15, 94.58),
    "00319ddc": _on_imagenet("resnet50_v1d", 78.48, 94.20),
    "1b2b825f": _on_imagenet("resnet101_v1d", 80.51, 95.12),
    "8659a9d6": _on_imagenet("resnet101_v1d", 79.78, 94.80),
    "cddbc86f": _on_imagenet("resnet152_v1d", 80.61, 95.34),
    "cfe0220d": _on_imagenet("resnet152_v1d", 80.26, 95.00),
    "efbb2ca3": _on_imagenet("mobilenet1.0", 73.28, 91.30),
    "cce75496": _on_imagenet("mobilenet1.0", 72.93, 91.14),
    "84c801e2": _on_imagenet("mobilenet0.75", 70.25, 89.49),
    "0130d2aa": _on_imagenet("mobilenet0.5", 65.20, 86.34),
    "f0046a3d": _on_imagenet("mobilenet0.25", 52.91, 76.94),
    "a5050dbc": _on_imagenet("inceptionv3", 78.77, 94.39),
    "e132adf2": _on_imagenet("inceptionv3", 78.41, 94.13),
    "447328d8": Published("faster_rcnn_resnet50_v1b_voc", "VOC 2007 test", {"voc_ap50": 78.3}),
    "5b4690fb": Published("faster_rcnn_resnet50_v1b_coco", "COCO val2017", {"coco_ap": 37.0, "coco_ap50": 57.8}),
    "a465eca3": Published("faster_rcnn_resnet101_v1d_coco", "COCO val2017", {"coco_ap": 40.1, "coco_ap50": 60.9}),
    "12c2b9b3": Published("fcn_resnet101_voc", "VOC 2012 test", {"miou": 83.6}),
    "766cdf9c": Published("fcn_resnet101_coco", "COCO val2017, the classes of VOC", {"miou": 66.2, "pixel_accuracy": 92.2}),
    "3479525a": Published("fcn_resnet50_ade", "ADE20K val", {"miou": 39.5, "pixel_accuracy": 79.0}),
    "d544440a": Published("fcn_resnet101_ade", "ADE20K val", {"miou": 41.6, "pixel_accuracy": 80.6}),
}

NORM = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}
"""MXNet's names of a BatchNorm's tensors."""
_BODY = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4, "conv3": 6, "bn3": 7}
_STEM = {"stem.conv1": "features.0", "stem.bn1": "features.1", "stem.conv": "features.0", "stem.bn": "features.1", "head.fc": "output"}
_INCEPTION = {
    "stem.0": 0,
    "stem.1": 1,
    "stem.2": 2,
    "stages.0.1": 4,
    "stages.0.2": 5,
    "stages.1.1": 7,
    "stages.1.2": 8,
    "stages.1.3": 9,
} | {f"stages.{stage}.{i}": first + i for stage, first, count in ((2, 10, 5), (3, 15, 3)) for i in range(count)}
"""The place in GluonCV's list of layers of each part of Inception V3."""


class Params(NamedTuple):
    """The content of a `.params` file of GluonCV.

    Attributes:
        path: the file.
        arrays: its arrays by name.
        origin: what the header of the new file states about this one; for a file of GluonCV's model zoo also its published metrics.
    """

    path: Path
    arrays: dict[str, Tensor]
    origin: dict[str, Any]

    @property
    def published(self) -> Published | None:
        """The file of GluonCV's model zoo that this is."""
        return PUBLISHED.get(self.origin["sha1"][:8])


class Candidate(NamedTuple):
    """A network that a file may hold: its architecture or that of its backbone, and GluonCV's names of its tensors by their own names.

    `shapes` has those of the backbone, without a prefix of the names.
    """

    architecture: Architecture
    names: dict[str, str]
    shapes: dict[str, torch.Size]


def read(path: Path) -> Params:
    """Read a `.params` file of GluonCV, which is recognised by its SHA-1 if it is of GluonCV's model zoo.

    Raises BadCheckpoint if the file cannot be read, or is not what its name says.
    """
    arrays = read_params(path)
    sha1 = _sha1(path)
    digits = re.search(r"-([0-9a-f]{8})\.params$", path.name)
    if digits and not sha1.startswith(digits[1]):
        raise BadCheckpoint(f"{path} is damaged: its SHA-1 is {sha1}, and its name says {digits[1]}; download it again")
    if not any("." in name for name in arrays):
        raise BadCheckpoint(f"{path} has the names of save_params, which GluonCV no longer writes; write it with save_parameters")
    params = Params(path, arrays, {"origin": "GluonCV", "file": path.name, "sha1": sha1})
    if published := params.published:
        params.origin.update({"name": published.name, published.data: dict(published.metrics)})
    return params


def import_classifier(params: Params, out: Path, classes: tuple[str, ...] | None = None) -> str:
    """Write the classifier in a file of GluonCV to a .safetensors file of trickzoo, and return the name of its model.

    The names and the shapes of the arrays determine the network. Its classes are `classes`, or those of ImageNet-1k if it has 1000.
    Raises BadCheckpoint if the file is not of a network of the zoo, and BadOption if the number of `classes` is not its own.
    """
    architecture, names, _ = find(params, _classifiers(), "classifier")
    tensors = {ours: params.arrays[theirs] for ours, theirs in names.items()}
    outputs = tensors["head.fc.bias"].numel()
    check_number(params, classes, outputs)
    inception = architecture.family == "inception_v3"
    own = header.FileMetadata(
        model=architecture.name,
        classes=classes or ("imagenet1k" if outputs == 1000 else None),
        preprocessing=Preprocessing(size=299, resize=342, interpolation="bilinear")
        if inception
        else Preprocessing(interpolation="bilinear"),
        training=params.origin,
    )
    save_atomically(tensors, out, header.encoded(own))
    return architecture.name


def fill(model: nn.Module, names: Mapping[str, str], arrays: Mapping[str, Tensor], path: Path) -> None:
    """Load arrays of a file into a network. `names` are the arrays' names by the network's.

    Raises BadCheckpoint, with the array and both shapes, if one does not fit.
    """
    own = model.state_dict()
    for ours, theirs in names.items():
        if arrays[theirs].shape != own[ours].shape:
            shapes = f"{tuple(arrays[theirs].shape)}, and in trickzoo's network {tuple(own[ours].shape)}"
            raise BadCheckpoint(f"{path} cannot be imported: {theirs} has the shape {shapes}")
    steps = {key: count for key, count in own.items() if key.endswith(".num_batches_tracked")}
    model.load_state_dict(steps | {ours: arrays[theirs] for ours, theirs in names.items()})


def check_number(params: Params, classes: tuple[str, ...] | None, outputs: int) -> None:
    """Raise BadOption if the number of classes is not that of the network's outputs."""
    if classes is not None and len(classes) != outputs:
        raise BadOption(f"{params.path} has {count(outputs, 'class')}, and --classes names {len(classes)}")


def _sha1(path: Path) -> str:
    with open_regular(path) as file:
        digest = hashlib.sha1(usedforsecurity=False)
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def find(params: Params, candidates: Iterable[Candidate], what: str) -> Candidate:
    """Return the candidate that has exactly the arrays of a file. `what` names the kind of network in messages.

    Raises BadCheckpoint, with the nearest candidate, if there is none.
    """
    arrays = params.arrays
    nearest: list[tuple[int, str, str]] = []
    for candidate in candidates:
        strange = arrays.keys() ^ set(candidate.names.values())
        wrong = [
            candidate.names[key]
            for key, shape in candidate.shapes.items()
            if candidate.names[key] in arrays and arrays[candidate.names[key]].shape != shape
        ]
        if not strange and not wrong:
            return candidate
        nearest.append((len(strange) + len(wrong), candidate.architecture.name, min([*strange, *wrong])))
    _, model, name = min(nearest)
    raise BadCheckpoint(f"{params.path} is not a {what} of GluonCV that trickzoo has; the nearest is {model}, which differs in {name}")


def _classifiers() -> Iterator[Candidate]:
    """Yield every network of the zoo under each of GluonCV's ways to name its tensors."""
    for architecture in registry.ARCHITECTURES.values():
        shapes = trained_shapes(architecture)
        keys = [*shapes, "head.fc.weight", "head.fc.bias"]
        if architecture.family in ("mobilenet_v1", "inception_v3") or architecture.options.get("letter") == "":
            yield Candidate(architecture, _named(keys, functools.partial(_place, architecture)), shapes)
        if architecture.family == "resnet" and "timm" in convert.layouts(architecture):
            yield Candidate(architecture, names_of_resnet(architecture, keys), shapes)


def trained_shapes(architecture: Architecture) -> dict[str, torch.Size]:
    """Return the shapes of a network's tensors that GluonCV's has too, without the classifier."""
    return {key: shape for key, shape in shapes_of(architecture.name).items() if not key.endswith(".num_batches_tracked")}


def names_of_resnet(architecture: Architecture, keys: Sequence[str]) -> dict[str, str]:
    """Return GluonCV's names of the tensors of a ResNet v1b to v1s, whose layers have timm's names, by the zoo's names."""
    timm = {ours.rpartition(".")[0]: theirs.rpartition(".")[0] for theirs, ours in convert.key_map(architecture, "timm", keys).items()}
    return _named(keys, timm.__getitem__)


def _named(keys: Sequence[str], place: Callable[[str], str]) -> dict[str, str]:
    """Return GluonCV's names of tensors by the zoo's, where `place` names the layer. A BatchNorm's weight is gamma, its bias beta."""
    norms = {key.removesuffix(".running_mean") for key in keys if key.endswith(".running_mean")}
    parts = [key.rpartition(".")[::2] for key in keys]
    return {f"{ours}.{last}": f"{place(ours)}.{NORM[last] if ours in norms else last}" for ours, last in parts}


def _place(architecture: Architecture, ours: str) -> str:
    """Return where GluonCV's network, a list of layers, has a layer of the zoo's."""
    if ours == "head.fc":
        return "output"
    if architecture.family == "inception_v3":
        return _inception(ours)
    if ours in _STEM:
        return _STEM[ours]
    _, stage, block, layer, *rest = ours.split(".")
    if architecture.family == "mobilenet_v1":
        before = sum((1, 2, 2, 6, 2)[: int(stage)]) + int(block)  # units before this one, each of six layers
        offset = {"depthwise": 0, "bn1": 1, "pointwise": 3, "bn2": 4}.get(layer)
        return f"features.{3 + 6 * before + offset}" if offset is not None else ours
    place = f"features.{int(stage) + 4}.{block}"
    return f"{place}.downsample.{rest[0]}" if layer == "shortcut" else f"{place}.body.{_BODY[layer]}"


def _inception(ours: str) -> str:
    part, _, layer = ours.rpartition(".")  # the layer is conv or bn
    index = {"conv": 0, "bn": 1}[layer]
    before, _, branch = part.partition(".branches.")
    place = f"features.{_INCEPTION[before]}"
    if not branch:
        return f"{place}.{index}"
    if before in ("stages.3.1", "stages.3.2") and branch[0] in "12":  # the branches that split
        tail = re.sub(r"^(\d)\.(\d)\.branches\.(\d)$", r"\1.1.\3.0", branch) if ".branches." in branch else re.sub(r"\.", ".0.", branch)
        return f"{place}.{tail}.{index}"
    return f"{place}.{branch}.{index}"
