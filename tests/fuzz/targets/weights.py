"""Fuzz targets for weight files, the manifest, the lock file and stamps."""

from __future__ import annotations

import functools
import io
import json
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from hypothesis import strategies as st
from safetensors.torch import save, save_file

import trickzoo
from tests import gluoncv
from tests.annotated import detector
from tests.checkpoints import SMALL, network, state
from tests.fuzz.check import Target
from tests.fuzz.inputs import damaged, documents, dump, pickles, safetensors_file, safetensors_files, saved, texts, zips
from trickzoo import detection, registry
from trickzoo.backbone import Backbone
from trickzoo.data.classes import IMAGENETTE, class_names
from trickzoo.data.transforms import eval_transform
from trickzoo.errors import TrickzooError
from trickzoo.files import digest
from trickzoo.recipes.collection import override, to_dict
from trickzoo.recipes.finetune import SMALL_BOXES
from trickzoo.recipes.zoo import RECIPES
from trickzoo.weights import download, local, manifest, mxnet, pins, tensors
from trickzoo.weights import header as headers

PACKAGED = "mobilenet_v1_025.tz_imagenette128"
TENSORS = {"a": torch.zeros(2, 3), "b": torch.ones(4, dtype=torch.float16), "c": torch.zeros(0, 2)}

HEADER = {
    "model": SMALL,
    "task": "classification",
    "layout": "trickzoo",
    "options": {"activation": "relu6"},
    "classes": list(IMAGENETTE),
    "preprocessing": {"size": 64, "crop": 0.875, "resize": 70, "interpolation": "bicubic", "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
    "source": "somewhere",
    "training": {"recipe": to_dict(RECIPES[0]), "seed": 0},
}


@functools.cache
def _body() -> tuple[dict[str, Any], bytes]:
    """Return the header and the tensors of a valid weight file."""
    content = save(network(SMALL, num_classes=10).state_dict())
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def weight_header(content: bytes, folder: Path) -> None:
    """The trickzoo header of a .safetensors file, read by `create` and by everything that uses its fields."""
    head, body = _body()
    whole = json.dumps(head | {"__metadata__": {"trickzoo": content.decode("utf-8", "replace")}}).encode()
    path = folder / "model.safetensors"
    path.write_bytes(safetensors_file(whole, body))
    model = created(str(path))
    class_names(model)
    eval_transform(model)
    headers.model_of(path)


def created(weights: str) -> Backbone:
    """Load the network of a file. A misfit is compared with two networks only, because all of the zoo takes a second."""
    few = {name: registry.ARCHITECTURES[name] for name in (SMALL, "resnet18_d")}
    with mock.patch.object(registry, "ARCHITECTURES", few):
        return trickzoo.create(SMALL, weights=weights)


def prepare_detector(folder: Path) -> None:
    detector(folder / "whole.safetensors", ["a", "b"])


def detector_header(content: bytes, folder: Path) -> None:
    """The header of a fine-tuned network, whose recipe defines the network."""
    whole = (folder / "whole.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    head = json.loads(whole[8 : 8 + length]) | {"__metadata__": {"trickzoo": content.decode("utf-8", "replace")}}
    path = folder / "model.safetensors"
    path.write_bytes(safetensors_file(json.dumps(head).encode(), whole[8 + length :]))
    detection.load(path)


def detector_seed() -> dict[str, Any]:
    fields = {"weights": "none", "short": "64", "long": "96", "fpn_channels": "16", "representation_size": "16"}
    recipe = to_dict(override(SMALL_BOXES, fields))
    training = {"recipe": recipe, "data_digest": "none"}
    return {
        "model": SMALL,
        "task": "detection",
        "options": {},
        "classes": ["a", "b"],
        "preprocessing": HEADER["preprocessing"],
        "training": training,
    }


def safetensors(content: bytes, folder: Path) -> None:
    """A .safetensors file with any tensors."""
    path = folder / "file.safetensors"
    path.write_bytes(content)
    tensors.read_tensors(path)
    with suppress(TrickzooError):  # the tensors belong to no network
        created(str(path))


def checkpoint_of_others(content: bytes, folder: Path) -> None:
    """A .pth file of another project."""
    path = folder / "file.pth"
    path.write_bytes(content)
    tensors.read_tensors(path)
    with suppress(TrickzooError):
        created(str(path))


def keys(content: bytes, folder: Path) -> None:
    """Names and shapes of tensors, from which the layout of a file is recognised: a JSON object of key → shape."""
    try:
        stated = json.loads(content)
    except (ValueError, RecursionError):
        return
    tensors = {}
    for key, value in stated.items() if isinstance(stated, dict) else ():
        shape = [side for side in value if type(side) is int and 0 <= side < 2**31] if isinstance(value, list) else []
        dtype = torch.long if key.endswith("num_batches_tracked") else torch.float16
        tensors[key] = torch.zeros(shape if math.prod(shape) <= 1 << 20 else (), dtype=dtype)
    path = folder / "keys.safetensors"
    try:
        save_file(tensors, path)
    except Exception:  # safetensors cannot write every name
        return
    created(str(path))


def _shapes(layout: str) -> dict[str, list[int]]:
    return {key: list(tensor.shape) for key, tensor in state(SMALL, layout).items()}


CONFIG = {
    "architecture": "mobilenetv1_100",
    "num_classes": 1000,
    "label_names": [f"class {number}" for number in range(1000)],
    "pretrained_cfg": {
        "input_size": [3, 224, 224],
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    },
}


def prepare_hub(folder: Path) -> None:
    save_file(state(SMALL), folder / "model.safetensors")


def hub_config(content: bytes, folder: Path) -> None:
    """The config.json of a hub repository in timm's format."""
    (folder / "config.json").write_bytes(content)

    with mock.patch.object(download, "fetch_hub_reference", functools.partial(_reference, folder)):
        model = created("hf-hub:someone/something")
        class_names(model)
        eval_transform(model)


def _reference(folder: Path, reference: str) -> tuple[Path, dict[str, Any], str]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        config = {}
    return folder / "model.safetensors", config if isinstance(config, dict) else {}, "0" * 40


def manifest_file(content: bytes, folder: Path) -> None:
    """A user's manifest."""
    path = folder / "own.toml"
    path.write_bytes(content)
    for record in manifest.read(path):
        str(record.preprocessing), [str(source) for source in record.sources], [source.filename for source in record.sources]


def _manifests() -> list[str]:
    found = []
    for path in sorted(manifest.shipped_folder().glob("*.toml")):
        records = path.read_text(encoding="utf-8").split("[[weights]]")
        found += ["[[weights]]".join(["", *records[1:3]])]
    return found


LOCK = {
    PACKAGED: {"source": "package:weights_manifest/files/x", "revision": "0" * 40, "sha256": "0" * 64, "size": 1},
    "a.b": {"source": "x", "sha256": "1" * 64},
}


def lock_file(content: bytes, folder: Path) -> None:
    """The lock file of pinned digests."""
    with mock.patch.dict(os.environ, {"TRICKZOO_LOCK": str(folder / "weights.lock.json"), "TRICKZOO_HOME": str(folder / "home")}):
        (folder / "weights.lock.json").write_bytes(content)
        record = manifest.find(PACKAGED)
        for source in record.sources:
            pins.expected_sha256(record, source), pins.revision(record, source)
        local.locate(record)
        pins.write({"x.y": pins.Pin(source="z", sha256="0" * 64)})


def stamp(content: bytes, folder: Path) -> None:
    """The stamp of a verified file."""
    with mock.patch.dict(os.environ, {"TRICKZOO_LOCK": str(folder / "none"), "TRICKZOO_HOME": str(folder / "home")}):
        record = manifest.find(PACKAGED)
        path = folder / "home" / "verified" / f"{PACKAGED}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        local.is_here(record), local.size(record), local.locate(record)
        path.write_bytes(content)
        local.verify(record)


def _stamps() -> list[dict[str, Any]]:
    path = next(path for path in manifest.shipped_folder().glob("files/*") if PACKAGED in path.name)
    source = str(manifest.find(PACKAGED).sources[0])
    stat = path.stat()
    whole = {"path": str(path), "sha256": digest(path), "source": source, "revision": None, "upstream_sha256": None}
    return [{**whole, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "inode": stat.st_ino}]


_ZIPPED = [saved(TENSORS), saved({"state_dict": TENSORS, "epoch": 3}), saved({"model": TENSORS, "args": {"lr": 0.1}})]


def _legacy() -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": TENSORS}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def _head_and_body(tensors: dict[str, torch.Tensor]) -> tuple[Any, bytes]:
    content = save(tensors, {"format": "pt"})
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def mxnet_params(content: bytes, folder: Path) -> None:
    """A .params file, whose arrays are named and typed by the file itself."""
    path = folder / "net.params"
    path.write_bytes(content)
    mxnet.read_params(path)


def _params() -> bytes:
    return gluoncv.params({"a": np.zeros((2, 3), np.float32), "arg:b": np.ones(4, np.float16)})


def _text(tree: Any) -> bytes:
    return dump(tree).encode()


TARGETS = (
    Target("weight header", documents(HEADER), weight_header, lambda: _text(HEADER)),
    Target("detector header", documents(detector_seed()), detector_header, lambda: _text(detector_seed()), prepare_detector),
    Target("safetensors", safetensors_files([_head_and_body(TENSORS)]), safetensors, lambda: save(TENSORS)),
    Target("pth bytes", st.one_of(damaged([*_ZIPPED, _legacy()]), zips(_ZIPPED)), checkpoint_of_others, _legacy),
    Target(
        "pth objects",
        pickles({"state_dict": TENSORS, "epoch": 3}, {"model": TENSORS}, {f"module.{key}": tensor for key, tensor in TENSORS.items()}),
        checkpoint_of_others,
        lambda: saved(TENSORS),
    ),
    Target("mxnet params", damaged([_params(), _params()[:40]]), mxnet_params, _params),
    Target("keys", documents(_shapes("trickzoo"), _shapes("timm")), keys, lambda: _text(_shapes("timm"))),
    Target("hub config", documents(CONFIG), hub_config, lambda: _text(CONFIG), prepare_hub),
    Target("manifest", texts(*_manifests()), manifest_file, lambda: _manifests()[0].encode()),
    Target("lock file", documents(LOCK), lock_file, lambda: _text(LOCK)),
    Target("stamp", documents(*_stamps()), stamp, lambda: _text(_stamps()[0])),
)
