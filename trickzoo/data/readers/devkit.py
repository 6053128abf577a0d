"""The labels of ImageNet's validation images, from the devkit (a folder or an archive) or from Kaggle's LOC_val_solution.csv."""

from __future__ import annotations

import csv
import gzip
import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

from trickzoo.data.readers import mat_files
from trickzoo.data.readers.tars import members
from trickzoo.errors import BadData
from trickzoo.files import read_regular

DEVKIT = "ILSVRC2012_devkit_t12"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"
KAGGLE = "LOC_val_solution.csv"
LIMIT = 64 << 20
"""How many bytes each of these files may have after unpacking. The largest one distributed has a few million."""
DAMAGED = (OSError, EOFError, LookupError, ValueError, TypeError, ArithmeticError, MemoryError, RecursionError, struct.error, zlib.error)
"""The errors that the readers of these files raise for a damaged file."""
READ_SECONDS = 60
"""For reading meta.mat, which takes about one."""


def validation_labels(near: Path, devkit: Path | None) -> dict[int, str]:
    """Return the synset of each validation image by the image's number.

    The labels are read from `devkit`, or from a devkit or solution file in or beside the folder `near`. Raises BadData if there is none, or
    if it is not what ImageNet and Kaggle distribute.
    """
    if devkit is not None and not devkit.exists():
        raise BadData(f"--devkit: {devkit} does not exist")
    places = (
        [devkit] if devkit else [folder / name for folder in (near, *near.parents[:4]) for name in (DEVKIT, f"{DEVKIT}.tar.gz", KAGGLE)]
    )
    for place in places:
        if place.suffix == ".csv" and place.is_file():
            return _kaggle_labels(place)
        if place.exists():
            return _devkit_labels(place)
    raise BadData(
        f"the labels of ILSVRC2012_val_*.JPEG are missing; put {DEVKIT}/, {DEVKIT}.tar.gz or {KAGGLE} into {near} or beside it; "
        "`trickzoo eval imagenet` takes it from elsewhere with --devkit"
    )


def _devkit_labels(place: Path) -> dict[int, str]:
    """Return the synset of each image by its number. The ground truth is in ILSVRC2012_IDs, which meta.mat maps to synsets."""
    try:
        files = _devkit_files(place)
        numbers = [int(line) for line in files[TRUTH].split()]
        by_id = _synsets(files[META])
        return {i: by_id[number] for i, number in enumerate(numbers, 1)}
    except DAMAGED as error:
        raise BadData(f"{place} is not the devkit of ILSVRC2012 ({type(error).__name__}: {error})") from None


def _devkit_files(place: Path) -> dict[str, bytes]:
    """Return the ground truth and meta.mat from the devkit's folder or archive. Raises OSError, ValueError or KeyError."""
    if place.is_dir():
        folder = place / DEVKIT if (place / DEVKIT).is_dir() else place
        return {name: read_regular(folder / "data" / name, at_most=LIMIT) for name in (TRUTH, META)}
    archive = read_regular(place, at_most=LIMIT)
    if archive.startswith(b"\x1f\x8b"):
        with gzip.open(io.BytesIO(archive)) as packed:
            archive = packed.read(LIMIT + 1)
        if len(archive) > LIMIT:
            raise ValueError(f"it has more than {LIMIT >> 20} MiB when unpacked")
    wanted = {f"{DEVKIT}/data/{name}": name for name in (TRUTH, META)}
    found = {m.name: archive[m.offset : m.offset + m.size] for m in members(io.BytesIO(archive), str(place)) if m.kind == "file"}
    return {name: found[path] for path, name in wanted.items()}


READ_META = """
import io, json, sys
from scipy.io import loadmat
table = loadmat(io.BytesIO(sys.stdin.buffer.read()), variable_names=["synsets"], squeeze_me=True)["synsets"]
print(json.dumps([[int(s["ILSVRC2012_ID"]), str(s["WNID"])] for s in table if int(s["num_children"]) == 0]))
"""


def _synsets(meta: bytes) -> dict[int, str]:
    """Return the synset of each leaf in the bytes of meta.mat by its ILSVRC2012_ID. Raises an error of `DAMAGED`.

    A process of its own reads the file, because scipy's reader ends its process on some damaged files instead of raising an error.
    """
    meta = mat_files.checked(meta, LIMIT)
    try:
        done = subprocess.run([sys.executable, "-c", READ_META], input=meta, capture_output=True, timeout=READ_SECONDS, check=True)
    except subprocess.SubprocessError:
        raise ValueError(f"{META} is damaged") from None
    return dict(json.loads(done.stdout))


def _kaggle_labels(place: Path) -> dict[int, str]:
    try:
        rows = csv.DictReader(io.StringIO(read_regular(place, at_most=LIMIT).decode("utf-8-sig"), newline=""))
        return {int(row["ImageId"].rpartition("_")[2]): row["PredictionString"].split()[0] for row in rows}
    except OSError as error:
        raise BadData(f"{place} cannot be read ({error.strerror})") from None
    except (KeyError, IndexError, ValueError, AttributeError, csv.Error) as error:  # a row that is too short has None in it
        raise BadData(f"{place} is not Kaggle's solution file ({type(error).__name__}: {error})") from None
