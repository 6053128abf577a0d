"""ImageNet-style validation data in each layout that people have it in.

- class folders named by synset (n01440764 …), any subset of them, with or without `train/` and `val/` (or `validation/`) above;
- class folders named 0 … 999, or some of these: they are ImageNet's to a model that knows its classes;
- the flat validation folder (ILSVRC2012_val_00000001.JPEG …) with the devkit, or Kaggle's LOC_val_solution.csv, in or beside it;
- the original ILSVRC2012_img_val.tar, unopened, with the same.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from torch import Tensor
from torch.utils.data import Dataset

from trickzoo.data import images
from trickzoo.data.classes import SYNSET, classes_of_labels, imagenet1k
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
BY_SYNSET, BY_INDEX, BY_NAME = (f"class folders by {what}" for what in ("synset", "index", "name"))


class Entry(NamedTuple):
    """One image: its path within the set, its class, and where its bytes are: offset and size in a file, which is the root or below it."""

    name: str
    label: str
    offset: int = -1
    size: int = -1
    file: str = ""


@dataclass(frozen=True)
class ImageSet:
    """A labelled set of images.

    Attributes:
        root: the folder that the entries' names are below, or the tar that holds them.
        layout: what was found, in words.
        empty: class folders without an image.
        strangers: files in class folders that are not named as images.
        order: all classes in the set's own order, where it has one.
    """

    root: Path
    layout: str
    entries: tuple[Entry, ...]
    empty: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()
    order: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that occur, in the set's own order or sorted."""
        found = {entry.label for entry in self.entries}
        return tuple(name for name in self.order if name in found) if self.order else tuple(sorted(found))

    def read(self, entry: Entry) -> bytes:
        """The bytes of an image's file."""
        if entry.offset < 0:
            return (self.root / entry.name).read_bytes()
        with (self.root / entry.file).open("rb") as file:
            file.seek(entry.offset)
            return file.read(entry.size)


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


def as_known(images: ImageSet, classes: Iterable[str]) -> ImageSet:
    """The set as one who knows these classes sees it: where they are ImageNet-1k's, folders that are called by some of 0 … 999 are too.

    The folders alone do not say it: 0, 1 and 2 may be anybody's classes.
    """
    names = imagenet1k()
    if images.layout != BY_NAME or not all(name.isdecimal() for name in images.classes) or not set(names).issuperset(classes):
        return images
    entries = (entry._replace(label=names[int(entry.label)]) if int(entry.label) < len(names) else entry for entry in images.entries)
    return replace(images, entries=tuple(entries), layout=BY_INDEX)


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


@dataclass(frozen=True)
class Sample:
    """An image as a worker hands it over; `pixels` is None and `error` says why if it cannot be read.

    `size` is the width and height in the file, `digest` the SHA-256 of its content, `label` the index of its class where a stream gave it.
    """

    index: int
    pixels: Tensor | None = None
    size: tuple[int, int] = (0, 0)
    digest: bytes = b""
    error: str = ""
    label: int = -1


@dataclass
class Decoded(Dataset[Sample]):
    """The images of a set, decoded and transformed. Errors are handed over, not raised, so that the caller decides."""

    images: ImageSet
    transform: Callable[..., Tensor]
    indices: Sequence[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Sample:
        index = self.indices[position]
        entry = self.images.entries[index]
        content = b""
        try:
            content = self.images.read(entry)
            image = images.decode(content, entry.name)
        except BadData as error:
            return Sample(index, digest=hashlib.sha256(content).digest(), error=str(error))
        except OSError as error:
            return Sample(index, error=f"{entry.name} cannot be read ({error.strerror})")
        return Sample(index, self.transform(image), image.size, hashlib.sha256(content).digest())
