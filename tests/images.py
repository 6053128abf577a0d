"""Writers of small image sets in ImageNet's layouts, and of files that are damaged or hostile."""

from __future__ import annotations

import struct
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

Files = Mapping[str, tuple[str, bytes]]
"""From the name of each image to its synset and its bytes."""


def jpeg(path: Path, seed: int = 0, size: tuple[int, int] = (40, 30)) -> Path:
    """Write a generated photograph-like JPEG."""
    noise = np.random.default_rng(seed).integers(0, 255, (size[1] // 5, size[0] // 5, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).resize(size).save(path, "JPEG")
    return path


def bomb(path: Path, side: int = 60_000) -> Path:
    """Write a PNG of a few hundred bytes that claims side × side pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


def devkit(folder: Path, labels: list[str]) -> Path:
    """Write the two files of ImageNet's devkit that are read, with the order and the inner nodes of the real one."""
    synsets = sorted(set(labels), key=lambda s: s[::-1])
    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height", "num_train_images")
    table = np.zeros((len(synsets) + 1, 1), dtype=[(name, "O") for name in fields])
    for i, synset in enumerate(synsets):
        table[i, 0] = (i + 1, synset, f"word of {synset}, second word", "gloss", 0, np.zeros(0), 0, 1300)
    table[-1, 0] = (len(synsets) + 1, "n00001740", "entity", "gloss", 2, np.array([1, 2]), 3, 0)
    data = folder / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    savemat(data / "meta.mat", {"synsets": table})
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{synsets.index(label) + 1}\n" for label in labels))
    return data.parent


def pack(folder: Path, archive: Path, mode: str = "w") -> Path:
    """Write a tar archive of the files in a folder."""
    with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    return archive
