"""ImageNet-style validation data in each layout that people have it in.

- class folders named by synset (n01440764 …), any subset of them, with or without `train/` and `val/` (or `validation/`) above;
- class folders named 0 … 999, or some of these: they are ImageNet's to a model that knows its classes;
- the flat validation folder (ILSVRC2012_val_00000001.JPEG …) with the devkit, or Kaggle's LOC_val_solution.csv, in or beside it;
- the original ILSVRC2012_img_val.tar, unopened, with the same.
"""

from __future__ import annotations

import csv
import io
import re
import tarfile
from pathlib import Path, PurePosixPath

from trickzoo.data import images
from trickzoo.data.classes import SYNSET, classes_of_labels, imagenet1k
from trickzoo.data.imageset import BY_INDEX, BY_NAME, BY_SYNSET, Entry, ImageSet
from trickzoo.errors import BadData

FLAT = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")
DEVKIT = "ILSVRC2012_devkit_t12"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"
KAGGLE = "LOC_val_solution.csv"
VALIDATION_TAR = "ILSVRC2012_img_val.tar"
SPLITS = {"val": ("val", "validation"), "train": ("train",)}
"""Names that the folder of a split has; the first that is there."""
DISTRIBUTED = "ILSVRC2012_"
"""How the names of ImageNet's own archives begin."""


def open_imagenet(path: Path, *, split: str = "val", devkit: Path | None = None) -> ImageSet:
    """Find the layout of `path` and list its images.

    `split` chooses between `train/` and `val/` (or `validation/`) where both are there. `devkit` names the devkit folder or archive, or
    Kaggle's solution file, if it is not in or beside `path`. Raises BadData with what is wrong.
    """
    if not path.exists():
        raise BadData(f"{path} does not exist")
    if path.is_file():
        return _tar(path, devkit)
    root = path
    folders, files = _listing(path)
    there = {name: place for name, places in SPLITS.items() for place in reversed(places) if place in folders}
    if there and not any(SYNSET.fullmatch(name) for name in folders):
        if split not in there:
            other, place = next(iter(there.items()))
            raise BadData(
                f"{path} has {place}/ but no {split}/; put images in {split}/, "
                f"or evaluate the others: trickzoo-eval imagenet --split {other}"
            )
        path = path / there[split]
        folders, files = _listing(path)
    flat = [name for name in files if FLAT.fullmatch(name)]
    if flat:
        labels = _validation_labels(path, devkit)
        return ImageSet(path, "flat validation folder", tuple(Entry(name, _label(name, labels)) for name in flat))
    if not folders:
        if VALIDATION_TAR in files:
            raise BadData(f"{path} holds no class folders; name {path / VALIDATION_TAR} itself")
        found = f"{len(files)} file{'s' * (len(files) != 1)}" if files else "nothing"
        raise BadData(f"{path} holds {found} and no class folders; put images into {root}/train/CLASS/ and {root}/val/CLASS/")
    classes, order = classes_of_labels(folders)
    if order == imagenet1k():
        return _class_folders(path, dict(zip(folders, classes, strict=True)), BY_INDEX)
    synsets = any(SYNSET.fullmatch(name) for name in folders)
    return _class_folders(path, {name: name for name in folders}, BY_SYNSET if synsets else BY_NAME)


def _listing(path: Path) -> tuple[list[str], list[str]]:
    """Names of the folders and files directly below `path`, sorted, without hidden ones."""
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    return [e.name for e in entries if e.is_dir()], [e.name for e in entries if e.is_file()]


def _class_folders(path: Path, labels: dict[str, str], layout: str) -> ImageSet:
    """The images below the folders that `labels` gives the class of."""
    entries, empty, strangers = [], [], []
    for folder, label in labels.items():
        found = False
        for file in sorted((path / folder).rglob("*")):
            if file.is_dir() or file.name.startswith(".") or file.name == "Thumbs.db":
                continue
            name = file.relative_to(path).as_posix()
            if file.suffix.lower() in images.EXTENSIONS:
                entries.append(Entry(name, label))
                found = True
            else:
                strangers.append(name)
        if not found:
            empty.append(folder)
    if not entries:
        raise BadData(f"{path} has {len(labels)} class folders and no image in any of them")
    return ImageSet(path, layout, tuple(entries), tuple(empty), tuple(strangers))


def _tar(path: Path, devkit: Path | None) -> ImageSet:
    """The validation set as distributed: members are found by a scan of the headers, nothing is extracted."""
    entries = []
    labels = None
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                place = PurePosixPath(member.name)
                if place.is_absolute() or ".." in place.parts:
                    raise BadData(
                        f"{path}: member {member.name} points outside the archive; this is not the file that ImageNet distributes"
                    )
                if member.isdir():
                    continue
                if not member.isreg() or not FLAT.fullmatch(place.name):
                    raise BadData(f"{path}: member {member.name} is none of ILSVRC2012_val_*.JPEG; pass {VALIDATION_TAR}")
                labels = labels or _validation_labels(path.parent, devkit)
                entries.append(Entry(member.name, _label(place.name, labels), member.offset_data, member.size))
    except tarfile.TarError as error:
        raise BadData(f"{path} is neither a folder nor an uncompressed tar ({error})") from None
    if not entries:
        raise BadData(f"{path} is an empty tar")
    if path.stat().st_size < entries[-1].offset + entries[-1].size:
        raise BadData(f"{path} is cut short: {entries[-1].name} is not whole; download it again")
    return ImageSet(path, "validation tar", tuple(sorted(entries)))


def _label(filename: str, labels: dict[int, str]) -> str:
    match = FLAT.fullmatch(filename)
    number = int(match[1]) if match else 0
    if number not in labels:
        raise BadData(f"{filename} is not in the ground truth, which has {len(labels):,} images")
    return labels[number]


def _validation_labels(near: Path, devkit: Path | None) -> dict[int, str]:
    """The synset of each validation image by its number."""
    if devkit is not None and not devkit.exists():
        raise BadData(f"--devkit: {devkit} does not exist")
    places = (
        [devkit] if devkit else [folder / name for folder in (near, *near.parents[:4]) for name in (DEVKIT, f"{DEVKIT}.tar.gz", KAGGLE)]
    )
    for place in places:
        if place.suffix == ".csv" and place.is_file():
            return _kaggle_labels(place)
        if place.exists():
            return _devkit_labels(_devkit_files(place), place)
    raise BadData(
        f"the labels of ILSVRC2012_val_*.JPEG are not there: put {DEVKIT}/, {DEVKIT}.tar.gz or {KAGGLE} into {near} or beside it; "
        "trickzoo-eval imagenet takes it from elsewhere with --devkit"
    )


def _devkit_labels(files: dict[str, bytes], place: Path) -> dict[int, str]:
    """Ground truth by ILSVRC2012_ID, an order of its own, through meta.mat to synsets."""
    from scipy.io import loadmat

    try:
        numbers = [int(line) for line in files[TRUTH].split()]
        synsets = loadmat(io.BytesIO(files[META]), squeeze_me=True)["synsets"]
        by_id = {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in synsets if int(s["num_children"]) == 0}
        return {i: by_id[number] for i, number in enumerate(numbers, 1)}
    except (KeyError, ValueError, TypeError) as error:
        raise BadData(f"{place} is not the devkit of ILSVRC2012 ({type(error).__name__}: {error})") from None


def _devkit_files(place: Path) -> dict[str, bytes]:
    """The two files that matter of the devkit's folder or archive."""
    try:
        if place.is_dir():
            folder = place / DEVKIT if (place / DEVKIT).is_dir() else place
            return {name: (folder / "data" / name).read_bytes() for name in (TRUTH, META)}
        with tarfile.open(place) as tar:
            found = {name: tar.extractfile(f"{DEVKIT}/data/{name}") for name in (TRUTH, META)}
            return {name: file.read() for name, file in found.items() if file is not None}
    except (OSError, KeyError, tarfile.TarError) as error:
        raise BadData(f"{place} is not the devkit of ILSVRC2012 ({error})") from None


def _kaggle_labels(place: Path) -> dict[int, str]:
    try:
        with place.open(newline="", encoding="utf-8") as file:
            return {int(row["ImageId"].rpartition("_")[2]): row["PredictionString"].split()[0] for row in csv.DictReader(file)}
    except (KeyError, IndexError, ValueError) as error:
        raise BadData(f"{place} is not Kaggle's solution file ({type(error).__name__}: {error})") from None
