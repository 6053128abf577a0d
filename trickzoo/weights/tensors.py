"""Reads files of tensors without running code from them, and writes such files atomically.

Reading any file, even a malicious one, takes seconds at most, and memory of the order of its size.
"""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from trickzoo import registry
from trickzoo.errors import BadCheckpoint, UnknownName, printable
from trickzoo.files import Identity, atomically, open_regular, utf8_path
from trickzoo.weights.pickles import hint, sentence, unpickle, unreadable
from trickzoo.weights.record import METADATA_KEY

log = logging.getLogger("trickzoo")

MOST_TENSORS = 20_000
"""Limit of what is read. The deepest network of the zoo has about a thousand tensors."""

WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Parts of a tensor's name that are added when a network is wrapped to be parallel, averaged, compiled, sharded or recomputed."""

HOLDERS = ("model.", "net.", "network.")
"""What every name begins with in the state dict of a module, such as Lightning's, that holds the network as an attribute."""

CLASSIFIERS = ("fc", "classifier")
"""Names of the classifier in networks of timm and torchvision."""

AVERAGES = ("state_dict_ema", "model_ema")
"""Keys under which the trainers of timm and torchvision store averaged weights."""

TYPES = frozenset(
    getattr(torch, name)
    for name in (
        *("float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
        *("bool", "uint8", "int8", "int16", "int32", "int64"),
    )
)


class Content(NamedTuple):
    """The content of a weight file: tensors by name, metadata, and the identity of the file that was read."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    identity: Identity


def read_tensors(path: Path) -> Content:
    """Read a .safetensors file, whose tensors are memory-mapped, or a pickled file.

    A pickled file is read with `weights_only=True`, which refuses anything but tensors and plain values. The state dict may be under the
    key "state_dict" or "model". The names may have the parts that wrappers add ("module.", "_orig_mod."), or all begin with some of
    `HOLDERS`. A classifier that is the only layer with tensors of an `nn.Sequential` gets the name that it has without one, and a warning
    is logged. If the checkpoint also has averaged weights, these are read, as timm does, and a warning is logged. A checkpoint of
    `trickzoo train` also has metadata; its averaged weights are read without a warning, because they are the ones that were evaluated.
    Raises BadCheckpoint if the file cannot be read, is damaged, or holds no state dict.
    """
    try:
        with open_regular(path) as file:
            identity = Identity.of(os.fstat(file.fileno()))
            head = file.read(9)
            file.seek(0)
            if path.suffix == ".safetensors" or head[8:] == b"{":
                tensors, metadata = _map_safetensors(path, file, head)
            else:
                content = unpickle(path, file)
                metadata = _metadata(path, content) if _is_training(content) else {}
                tensors = _state_dict(path, content)
        if Identity.of(path.stat()) != identity:
            raise BadCheckpoint(f"{path} changed while it was read; load it again")
    except OSError as error:
        raise unreadable(path, error) from None
    _check(path, tensors, identity.size)
    return Content(_with_plain_classifier(path, _without_wrappers(path, tensors)), metadata, identity)


# ---------------------------------------------------------------------------------------------------------------------
# safetensors


def _map_safetensors(path: Path, file: BinaryIO, head: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    length = int.from_bytes(head[:8], "little")
    file.seek(8)
    objects = file.read(min(length, 100_000_000)).count(b"{")  # each tensor has one; safetensors refuses longer headers
    if objects > MOST_TENSORS:
        raise _too_many(path, objects)
    try:
        with safetensors.safe_open(utf8_path(path, file), framework="pt") as mapped:
            return {name: mapped.get_tensor(name) for name in mapped.keys()}, mapped.metadata() or {}  # noqa: SIM118
    except (safetensors.SafetensorError, RuntimeError, ValueError, TypeError, AttributeError, MemoryError) as error:
        what = hint(file) or "fetch or write it again"
        raise BadCheckpoint(f"{path} is not a whole safetensors file ({sentence(error)}); {what}") from None


def _too_many(path: Path, tensors: int) -> BadCheckpoint:
    return BadCheckpoint(f"{path} holds {tensors:,} tensors or more; no network of the zoo has so many")


# ---------------------------------------------------------------------------------------------------------------------
# the content of a file


def _is_training(content: Any) -> bool:
    """Return whether this is the content of a checkpoint of `trickzoo train`."""
    return isinstance(content, Mapping) and content.keys() >= {"model", "optimiser", "recipe", "seed"}


def _metadata(path: Path, content: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a checkpoint of `trickzoo train`. For an old one without metadata it is made from its recipe and seed."""
    try:
        if "metadata" in content or "head.fc.weight" not in content["model"]:
            return {str(key): str(value) for key, value in dict(content.get("metadata", {})).items()}
        model = registry.find(content["recipe"]["model"].partition(".")[0]).name
        return {METADATA_KEY: json.dumps({"model": model, "training": {"recipe": content["recipe"], "seed": content["seed"]}})}
    except (TypeError, KeyError, AttributeError, ValueError, RecursionError, UnknownName) as error:
        raise BadCheckpoint(f"{path} is a damaged checkpoint: its metadata cannot be read ({error})") from None


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    """Return the state dict in the content of a pickled file. Raises BadCheckpoint if there is none."""
    for key in ("average", "model") if _is_training(content) else (*AVERAGES, "state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            if key in AVERAGES:
                log.warning('%s: its averaged weights are loaded, those under "%s"', printable(path), key)
            content = content[key]
            break
    # torch's AveragedModel has a counter beside the tensors of the network
    if isinstance(content, Mapping) and isinstance(content.get("n_averaged"), Tensor):
        content = {key: value for key, value in content.items() if key != "n_averaged"}
    if isinstance(content, Mapping) and len(content) > MOST_TENSORS:
        raise _too_many(path, len(content))
    if not isinstance(content, Mapping) or not content or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()):
        raise BadCheckpoint(f'{path} holds no state dict: names and tensors, alone or under "state_dict" or "model"')
    return {key: tensor.detach() for key, tensor in content.items()}


def _check(path: Path, tensors: Mapping[str, Tensor], size: int) -> None:
    """Raise BadCheckpoint if a tensor is not a dense one of plain numbers, or the tensors have far more bytes than the file (`size`)."""
    total = 0
    for key, tensor in tensors.items():
        kind = None
        if tensor.layout != torch.strided or tensor.is_nested:
            kind = "sparse"
        elif tensor.is_meta:
            kind = "empty (meta)"
        elif tensor.dtype not in TYPES:
            kind = str(tensor.dtype).removeprefix("torch.")
        elif tensor.nbytes > tensor.untyped_storage().nbytes():
            kind = "repeated"
        if kind:
            raise BadCheckpoint(f"{path}: {key} is a {kind} tensor; save it as a dense one of floating point")
        total += tensor.nbytes
    if total > 4 * size + (64 << 20):  # a tensor that several names share is in the file once
        raise BadCheckpoint(f"{path} is not a checkpoint of a network: its tensors make {total:,} bytes, the file has {size:,}")


def check_finite(tensors: Mapping[str, Tensor], name: object) -> None:
    """Raise BadCheckpoint, which begins with the name of the network or its file, if a tensor has a value that is NaN or infinite.

    Tensors on the meta device have no values.
    """
    if not all(tensor.is_meta or bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise BadCheckpoint(f"{name} has weights that are not finite; the weights are damaged")


def _without_wrappers(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under their names without the parts that wrappers of the network, or modules that hold it alone, added."""
    bare = {".".join(part for part in key.split(".") if part not in WRAPPERS): tensor for key, tensor in tensors.items()}
    if len(bare) < len(tensors):
        raise BadCheckpoint(f"{path} holds the same network twice, wrapped and not; save one state dict alone")
    while bare and (holder := next((each for each in HOLDERS if all(key.startswith(each) for key in bare)), "")):
        bare = {key.removeprefix(holder): tensor for key, tensor in bare.items()}
    return bare


def _with_plain_classifier(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors, with "fc.1.weight" as "fc.weight" if a linear layer is the only one with tensors in a Sequential, for example
    after a dropout. The same holds for "classifier".
    """
    for name in CLASSIFIERS:
        own = {key for key in tensors if key.startswith(f"{name}.")}
        places = {key.split(".")[1] for key in own}
        place = next(iter(places)) if len(places) == 1 else ""
        layer = f"{name}.{place}"
        if place.isdecimal() and own == {f"{layer}.weight", f"{layer}.bias"} and tensors[f"{layer}.weight"].ndim == 2:
            log.warning("%s: %s is loaded as the classifier, without the other layers of its Sequential", printable(path), layer)
            return {key.replace(f"{layer}.", f"{name}.") if key in own else key: tensor for key, tensor in tensors.items()}
    return tensors


# ---------------------------------------------------------------------------------------------------------------------
# writing


def to_safetensors(source: Path, target: Path) -> Identity:
    """Convert a pickled file to a .safetensors file, which is written atomically. Returns the identity of the file that was read.

    Raises BadCheckpoint if `source` cannot be read, and NotWritten if `target` cannot be written.
    """
    content = read_tensors(source)
    save_atomically(content.tensors, target, {"converted_from": source.name})
    return content.identity


def save_atomically(tensors: Mapping[str, Tensor], target: Path, metadata: dict[str, str]) -> None:
    """Write a .pth file if `target` has that suffix, else a .safetensors file, atomically. Raises NotWritten if it cannot be written."""
    # Safetensors cannot store tensors that share memory or are not contiguous, so each gets memory of its own.
    whole = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    with atomically(target) as temporary:
        if target.suffix == ".safetensors":
            try:
                save_file(whole, temporary, metadata)
            except safetensors.SafetensorError as error:  # its writer reports a full disk this way
                raise OSError(str(error)) from None
        else:
            buffer = io.BytesIO()  # torch's own writer does not report why a file cannot be written
            torch.save(whole, buffer)
            temporary.write_bytes(buffer.getbuffer())
