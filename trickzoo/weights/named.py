"""Resolves the names that users type to models, weights and files. Files are not read, and torch is not imported."""

from __future__ import annotations

import os
from pathlib import Path

from trickzoo import registry
from trickzoo.errors import BadCheckpoint, BadOption, shortened
from trickzoo.files import expanded
from trickzoo.output_files import BEST, LAST, NETWORK
from trickzoo.registry import Architecture
from trickzoo.weights import manifest
from trickzoo.weights.record import NetworkRecord, Record

EXPORTED = {".onnx": "onnx", ".pt2": "torch-export", ".xml": "openvino"}
"""The formats of the files of whole networks that `trickzoo export` writes for other programs, by their suffixes."""
FILE_SUFFIXES = {".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar"}


def is_exported(reference: str) -> bool:
    """Return whether `--model` names a file of a whole network."""
    return reference.endswith(tuple(EXPORTED))


def is_file(reference: str) -> bool:
    """Return whether `weights=` names a file, or the folder of a training run or of several finished ones.

    The name of a detector or a segmenter of the zoo stands for its file. A model, a tag, a weight and an `hf-hub:` reference take
    precedence over a file of the same name; `./NAME` names the file.
    """
    if reference.startswith("hf-hub:"):
        return False
    path = Path(reference)
    if path.suffix in FILE_SUFFIXES or len(path.parts) > 1 or reference.startswith(("./", "~")):
        return True
    if network(reference):
        return True
    if reference in registry.ARCHITECTURES or reference in registry.ALIASES:
        return False
    is_training = any((path / name).is_file() for name in (NETWORK, LAST, BEST))
    return (path.is_file() or is_training or bool(_trainings_in(path))) and not any(
        reference in (record.tag, record.name) for record in manifest.records().values()
    )


def network(reference: str) -> NetworkRecord | None:
    """Return the record of a detector or a segmenter of the zoo; None if the reference is another name or a path."""
    path = Path(reference)
    is_name = path.suffix not in ("", *FILE_SUFFIXES) and len(path.parts) == 1
    return manifest.networks().get(reference) if is_name else None


def existing(reference: str | os.PathLike[str]) -> Path:
    """Return the path of a weight file, also if the folder of its training, or a detector or a segmenter of the zoo, is named.

    Raises BadCheckpoint if there is no such file, or if it is an exported network; a file that cannot be read raises it later. Raises what
    `store.fetch` raises for a network of the zoo.
    """
    if record := network(str(reference)):
        from trickzoo.weights import store  # only now, because most commands do not need it

        return store.fetch(record).path
    path = expanded(reference)
    if path.is_dir():
        if not (path / NETWORK).exists():
            raise BadCheckpoint(_not_finished(path))
        path /= NETWORK
    try:
        path.stat()
    except FileNotFoundError:
        raise BadCheckpoint(f"{path} does not exist{_of_the_hub(str(reference))}") from None
    except (OSError, ValueError):
        pass
    if path.suffix.lower() in EXPORTED:
        raise BadCheckpoint(f"{path} is a whole exported network and not a file of weights; name the weight file that it was exported from")
    return path


def _of_the_hub(reference: str) -> str:
    """Return the end of a message that suggests the hub, if a reference that is not a file looks like OWNER/NAME there."""
    owner, _, name = reference.partition("/")
    is_hub = owner.startswith("hf-hub:")
    if not owner or not name or is_hub or "/" in name or Path(owner).expanduser().exists() or Path(name).suffix in FILE_SUFFIXES:
        return ""
    return f"; the weights of that name on the hub are hf-hub:{reference.rpartition(':')[2]}"


def _trainings_in(folder: Path) -> list[str]:
    """Return the paths of the finished training runs in a folder."""
    try:
        return sorted(str(found.parent) for found in folder.glob(f"*/{NETWORK}"))
    except OSError:
        return []


def _not_finished(folder: Path) -> str:
    if inside := _trainings_in(folder):
        return f"{folder} holds no training itself; name one of those in it: {shortened(inside)}"
    return f"{folder} holds no finished training run; name its last.pt or best.pt, or another file"


def resolve(
    name: str, *, pretrained: bool | str = False, weights: str | os.PathLike[str] | None = None
) -> tuple[Architecture, Record | Path | str | None]:
    """Return the architecture that the arguments of `trickzoo.create` name, and the source of its weights.

    The source is a record of the zoo, the path of a file, an `hf-hub:` reference, or None without weights.

    Raises UnknownName for an unknown model, weight or tag, NoWeights if the model has no weights or no default weight, BadOption for names
    that contradict each other, and BadCheckpoint for a file that does not exist.
    """
    if name.startswith("hf-hub:"):
        raise BadOption(f"{name} names weights on the hub; name a model, and give this as its weights")
    reference = str(weights) if weights is not None else pretrained if isinstance(pretrained, str) else None
    if weights is not None and pretrained:
        raise BadOption("give either pretrained or weights, not both")
    if "." in name:
        record = manifest.find(name)
        if reference is not None and reference not in (record.tag, record.name):
            raise BadOption(f"{name} already names a weight; to load {reference}, create {record.model}")
        name, reference = record.model, record.tag
    architecture = registry.find(name)
    if reference is not None:
        return architecture, _source(architecture, reference)
    return architecture, manifest.choose(architecture.name) if pretrained else None


def _source(architecture: Architecture, reference: str) -> Record | Path | str:
    if reference.startswith("hf-hub:"):
        return reference
    if is_file(reference):
        return existing(reference)
    if "." not in reference:
        return manifest.choose(architecture.name, reference)
    record = manifest.find(reference)
    if record.model != architecture.name:
        raise BadOption(f"{reference} is a weight of {record.model}, not of {architecture.name}; create {record.model}")
    return record


def check(model: str, weights: str | None = None) -> None:
    """Raise the errors of `resolve` for a pretrained network: a model with these weights or its default weight, a weight, or a file."""
    if weights is not None:
        resolve(model, weights=weights)
    elif is_file(model):
        existing(model)
    else:
        resolve(model, pretrained="." not in model)
