"""Small files that unpack to large or thin images, and measurements of the memory and time that the package needs for them.

`python -m tests.hostile --out benchmarks/results/hostile_images.json` measures what the table of docs/images.md shows. Each figure is
measured in a new process: CPU seconds, and peak memory above that of the imports.
"""

from __future__ import annotations

import argparse
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from tests.annotated import detector, segmenter
from trickzoo import environment
from trickzoo.result_files import write_json

MIB = 2**20


PNG_KINDS = {"RGB": (8, 2, 3), "RGBA": (8, 6, 4), "grey": (8, 0, 1), "16-bit grey": (16, 0, 2)}
"""Bits per channel, colour type and bytes per pixel."""


def png(path: Path, width: int, height: int, kind: str = "RGB") -> None:
    """Write a black PNG of one of `PNG_KINDS`, row by row: its pixels are never in memory together."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    bits, colour_type, bytes_per_pixel = PNG_KINDS[kind]
    row, packer = bytes(1 + width * bytes_per_pixel), zlib.compressobj(1)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def _photograph(path: Path) -> None:
    Image.linear_gradient("L").resize((4000, 3000)).convert("RGB").save(path, "JPEG")


def _large_jpeg(path: Path) -> None:
    Image.new("L", (20_000, 20_000)).save(path, "JPEG")


class Case(NamedTuple):
    """Images of one kind: their name in the table, a function that writes one, and how many there are."""

    name: str
    write: Callable[[Path], None]
    count: int = 1


CASES = {
    case.name: case
    for case in (
        Case("PNG, 60,000 × 1", lambda path: png(path, 60_000, 1)),
        Case("PNG, 2,000,000 × 1", lambda path: png(path, 2_000_000, 1)),
        Case("PNG, 1 × 2,000,000", lambda path: png(path, 1, 2_000_000)),
        Case("PNG, 6,000 × 6,000", lambda path: png(path, 6_000, 6_000)),
        Case("PNG, 9,999 × 9,999", lambda path: png(path, 9_999, 9_999)),
        Case("PNG, 13,000 × 13,000", lambda path: png(path, 13_000, 13_000)),
        Case("PNG with transparency, 9,900 × 9,900", lambda path: png(path, 9_900, 9_900, "RGBA")),
        Case("grey PNG, 12,000 × 9,000", lambda path: png(path, 12_000, 9_000, "grey")),
        Case("grey PNG of 16 bits, 9,900 × 9,900", lambda path: png(path, 9_900, 9_900, "16-bit grey")),
        Case("PNG, 20,000 × 20,000", lambda path: png(path, 20_000, 20_000)),
        Case("grey JPEG, 20,000 × 20,000", _large_jpeg),
        Case("60 JPEGs, 4,000 × 3,000", _photograph, 60),
    )
}

PREDICT = """
import torch
from trickzoo.cli import predict
torch.set_num_threads(1)
ready()
predict.predict(*files, {options}, overwrite={overwrite}, json=True)
"""
ONCE = """
import shutil
from pathlib import Path
from trickzoo.data.resident import decode_once, squash
from trickzoo.data.readers.imagenet import open_imagenet
(place / "set" / "a").mkdir(parents=True)
for file in files:
    shutil.copy(file, place / "set" / "a" / file.name)
ready()
decode_once(open_imagenet(place / "set"), squash(64), "squash64", place / "cache", workers=0)
"""
TASKS = {
    "classification": PREDICT.format(options='model="mobilenet_v1_025.tz_imagenette128"', overwrite=False),
    "detection": PREDICT.format(options='weights=str(shared / "boxes.safetensors"), out=place / "out"', overwrite=True),
    "segmentation": PREDICT.format(options='weights=str(shared / "masks.safetensors"), out=place / "out"', overwrite=True),
    "decoded once": ONCE,
}
PROGRAM = """
import sys, time
from pathlib import Path
from trickzoo import detection, segmentation
from trickzoo.errors import TrickzooError
shared, place, *files = map(Path, sys.argv[1:])
start = [0.0, 0]
def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
def ready():
    start[:] = [time.process_time(), peak()]
try:
    {task}
    said = ""
except TrickzooError as error:
    said = str(error)
print()
print(time.process_time() - start[0], peak() - start[1], said, sep="\\t")
"""


class Measured(NamedTuple):
    """CPU seconds, peak memory in bytes above that of the imports, and the message if the images were refused, else ""."""

    seconds: float
    memory: int
    said: str


def networks(folder: Path) -> None:
    """Write the detector and the segmenter that `measure` uses into a folder."""
    detector(folder / "boxes.safetensors", ("cat", "dog"))
    segmenter(folder / "masks.safetensors", tuple(f"class {i}" for i in range(21)))


def measure(task: str, files: list[Path], shared: Path) -> Measured:
    """Run one of `TASKS` on some images in a new process, with the networks in `shared`, and return what it took."""
    program = PROGRAM.format(task=TASKS[task].strip().replace("\n", "\n    "))
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(
            [sys.executable, "-c", program, shared, place, *files],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
    seconds, memory, said = done.stdout.splitlines()[-1].split("\t")
    return Measured(float(seconds), int(memory), said)


def write(case: Case, folder: Path) -> list[Path]:
    """Write the images of a case and return their paths; all of them are hard links to one file."""
    files = [folder / f"{i}.png" for i in range(case.count)]
    case.write(files[0])
    for other in files[1:]:
        os.link(files[0], other)
    return files


def main() -> None:
    """Measure every case, print a line for each, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the figures")
    out = parser.parse_args().out
    images: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as shared:
        networks(Path(shared))
        for case in CASES.values():
            with tempfile.TemporaryDirectory() as folder:
                files = write(case, Path(folder))
                found = {task: measure(task, files, Path(shared)) for task in TASKS}
            images[case.name] = {
                task: {"refused": each.said} if each.said else {"mib": round(each.memory / MIB), "cpu_seconds": round(each.seconds, 1)}
                for task, each in found.items()
            }
            print(case.name, images[case.name], flush=True)
    what = "memory above that of the imports and CPU seconds of one thread, for images of unusual sizes"
    write_json(out, {"what": what, "images": images, **environment.describe(), "command": "python -m tests.hostile --out FILE"})


if __name__ == "__main__":
    main()
