"""Imports classifiers of GluonCV, the authors' implementation of the paper, from MXNet's `.params` files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from trickzoo import registry
from trickzoo.errors import BadCheckpoint, BadOption
from trickzoo.files import open_regular
from trickzoo.registry import Architecture
from trickzoo.weights import convert, header
from trickzoo.weights.load import shapes_of
from trickzoo.weights.mxnet import read_params
from trickzoo.weights.record import Preprocessing
from trickzoo.weights.tensors import save_atomically


class Published(NamedTuple):
    """A file of GluonCV's model zoo: its name, and the accuracies on ImageNet's validation images that GluonCV states, in percent."""

    name: str
    top1: float
    top5: float


# By the first eight digits of the file's SHA-1, as in its name. Source: GluonCV docs/model_zoo/csv_tables/Classifications, 56777561.
PUBLISHED = {
    "a0666292": Published("resnet18_v1", 70.93, 89.92),
    "48216ba9": Published("resnet34_v1", 74.37, 91.87),
    "cc729d95": Published("resnet50_v1", 77.36, 93.57),
    "d988c13d": Published("resnet101_v1", 78.34, 94.01),
    "acfd0970": Published("resnet152_v1", 79.22, 94.64),
    "2d9d980c": Published("resnet18_v1b", 70.94, 89.83),
    "8e16b848": Published("resnet34_v1b", 74.65, 92.08),
    "0ecdba34": Published("resnet50_v1b", 77.67, 93.82),
    "a455932a": Published("resnet101_v1b", 79.20, 94.61),
    "a5a61ee1": Published("resnet152_v1b", 79.69, 94.74),
    "2a4e0708": Published("resnet50_v1c", 78.03, 94.09),
    "064858f2": Published("resnet101_v1c", 79.60, 94.75),
    "75babab6": Published("resnet152_v1c", 80.01, 94.96),
    "117a384e": Published("resnet50_v1d", 79.15, 94.58),
    "00319ddc": Published("resnet50_v1d", 78.48, 94.20),
    "1b2b825f": Published("resnet101_v1d", 80.51, 95.12),
    "8659a9d6": Published("resnet101_v1d", 79.78, 94.80),
    "cddbc86f": Published("resnet152_v1d", 80.61, 95.34),
    "cfe0220d": Published("resnet152_v1d", 80.26, 95.00),
    "efbb2ca3": Published("mobilenet1.0", 73.28, 91.30),
    "cce75496": Published("mobilenet1.0", 72.93, 91.14),
    "84c801e2": Published("mobilenet0.75", 70.25, 89.49),
    "0130d2aa": Published("mobilenet0.5", 65.20, 86.34),
    "f0046a3d": Published("mobilenet0.25", 52.91, 76.94),
    "a5050dbc": Published("inceptionv3", 78.77, 94.39),
    "e132adf2": Published("inceptionv3", 78.41, 94.13),
}

_NORM = {"weight": "gamma", "bias": "beta"}
"""MXNet's names of a BatchNorm's scale and shift. Those of its statistics are torch's."""
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


def import_params(path: Path, out: Path, *, overwrite: bool = False) -> header.FileMetadata:
    """Write the network in a `.params` file of GluonCV to a .safetensors file of trickzoo, and return what its header says.

    The names and the shapes of the arrays determine the network. A file of GluonCV's model zoo is recognised by its SHA-1, and its
    published accuracies are noted in the header.
    Raises BadCheckpoint if the file cannot be read, is not what its name says, or is not of a network of the zoo, and BadOption if `out`
    exists or does not end in .safetensors.
    """
    if out.suffix != ".safetensors":
        raise BadOption(f"{out}: the name of the file to write must end in .safetensors")
    if out.exists() and not overwrite:
        raise BadOption(f"{out} exists; name another file, or overwrite it with --overwrite")
    arrays = read_params(path)
    sha1 = _sha1(path)
    digits = re.search(r"-([0-9a-f]{8})\.params$", path.name)
    if digits and not sha1.startswith(digits[1]):
        raise BadCheckpoint(f"{path} is damaged: its SHA-1 is {sha1}, and its name says {digits[1]}; download it again")
    architecture, names = _find(path, arrays)
    tensors = {ours: arrays[theirs] for ours, theirs in names.items()}
    inception = architecture.family == "inception_v3"
    origin: dict[str, Any] = {"origin": "GluonCV", "file": path.name, "sha1": sha1}
    if published := PUBLISHED.get(sha1[:8]):
        origin |= {"name": published.name, "imagenet1k-val": {"top1": published.top1, "top5": published.top5}}
    own = header.FileMetadata(
        model=architecture.name,
        classes="imagenet1k" if tensors["head.fc.bias"].numel() == 1000 else None,
        preprocessing=Preprocessing(size=299, resize=342, interpolation="bilinear")
        if inception
        else Preprocessing(interpolation="bilinear"),
        training=origin,
    )
    save_atomically(tensors, out, header.encoded(own))
    return own


def _sha1(path: Path) -> str:
    with open_regular(path) as file:
        digest = hashlib.sha1(usedforsecurity=False)
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _find(path: Path, arrays: Mapping[str, Tensor]) -> tuple[Architecture, dict[str, str]]:
    """Return the network that has exactly these arrays, and their names by the zoo's names. Raises BadCheckpoint if there is none."""
    if not any("." in name for name in arrays):
        raise BadCheckpoint(f"{path} has the names of save_params, which GluonCV no longer writes; write it with save_parameters")
    nearest: list[tuple[int, str, str]] = []
    for architecture in registry.ARCHITECTURES.values():
        own = shapes_of(architecture.name)
        known = [key for key in [*own, "head.fc.weight", "head.fc.bias"] if not key.endswith(".num_batches_tracked")]
        for names in _layouts(architecture, known):
            strange = arrays.keys() ^ set(names.values())
            wrong = [name for key, name in names.items() if name in arrays and key in own and own[key] != arrays[name].shape]
            if not strange and not wrong:
                return architecture, names
            nearest.append((len(strange) + len(wrong), architecture.name, min([*strange, *wrong])))
    _, model, name = min(nearest)
    raise BadCheckpoint(f"{path} is not a classifier of GluonCV that trickzoo has; the nearest is {model}, which differs in {name}")


def _layouts(architecture: Architecture, keys: list[str]) -> list[dict[str, str]]:
    """Return GluonCV's names of a network's tensors by the zoo's names, for each of the ways in which GluonCV names them."""
    norms = {key.removesuffix(".running_mean") for key in keys if key.endswith(".running_mean")}

    def named(place: str, parameter: str, ours: str) -> str:
        return f"{place}.{_NORM.get(parameter, parameter) if ours in norms else parameter}"

    parts = [key.rpartition(".")[::2] for key in keys]
    found = []
    if architecture.family != "resnet" or architecture.options["letter"] == "":
        found.append({f"{ours}.{last}": named(_place(architecture, ours), last, ours) for ours, last in parts})
    if architecture.family == "resnet" and "timm" in convert.layouts(architecture):  # GluonCV's v1b to v1s have timm's names of layers
        timm = {ours: theirs.rpartition(".")[0] for theirs, ours in convert.key_map(architecture, "timm", keys).items()}
        found.append({f"{ours}.{last}": named(timm[f"{ours}.{last}"], last, ours) for ours, last in parts})
    return found


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
