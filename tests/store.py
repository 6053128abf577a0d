"""The file of a test record in good and bad versions, and the paths where the store keeps it."""

from __future__ import annotations

import io
import json
import os
from hashlib import sha256
from pathlib import Path

import safetensors.torch
import torch

from tests.hub import Hub
from trickzoo.files import home
from trickzoo.weights.record import Preprocessing, Record, Source

REPO = "org/net"
FILE = "model.safetensors"
TENSORS = {"fc.weight": torch.arange(16384.0).reshape(128, 128), "fc.bias": torch.ones(128)}
GOOD = safetensors.torch.save(TENSORS)
OTHER = safetensors.torch.save({"fc.weight": torch.zeros(3)})


def pickled(tensors: dict[str, torch.Tensor]) -> bytes:
    file = io.BytesIO()
    torch.save(tensors, file)
    return file.getvalue()


PTH = pickled(TENSORS)


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def record(*sources: Source) -> Record:
    return Record(
        name="resnet18.test", layout="timm", classes="imagenet1k", licence="apache-2.0", sources=sources, preprocessing=Preprocessing()
    )


HUB = Source(hub=REPO, file=FILE)


def url_source(hub: Hub, content: bytes = GOOD, name: str = "net.safetensors") -> Source:
    return Source(url=hub.add_file(name, content), sha256=digest(content))


def stamp() -> dict[str, object]:
    return json.loads((home() / "verified" / "resnet18.test.json").read_text())


def by_hand(filename: str = FILE) -> Path:
    folder = home() / "files" / "resnet18.test"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / filename


def hub_cache() -> Path:
    return Path(os.environ["HF_HUB_CACHE"])


def kept() -> set[str]:
    """Return the digest of every file with a final name in the hub's cache and below home()/files."""
    files = [path for path in hub_cache().glob("*/blobs/*") if path.suffix != ".incomplete"]
    files += [path for path in (home() / "files").rglob("*") if path.name != ".lock"]
    return {digest(path.read_bytes()) for path in files if path.is_file()}
