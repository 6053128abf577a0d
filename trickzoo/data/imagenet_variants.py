"""Other test sets and other labels for classifiers of ImageNet's 1000 classes. The lists come from the installed timm."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath

import msgspec

from trickzoo.data.classes import imagenet1k
from trickzoo.data.imageset import ImageSet
from trickzoo.errors import BadData
from trickzoo.files import read_regular
from trickzoo.wording import count

TRAINING_IMAGE = re.compile(r"n\d{8}_\d+\.jpe?g", re.IGNORECASE)
"""The names of ImageNet's training images: the synset and a number."""
VALIDATION_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})\.jpe?g", re.IGNORECASE)
MOST_LABELS = 64 << 20
"""How many bytes a file of labels may have; the published one has about half a million."""


@dataclass(frozen=True)
class Variant:
    """A test set for ImageNet's classes.

    Attributes:
        title: its name.
        synsets: the file of its classes in timm; empty for all 1000.
        source: the article.
    """

    title: str
    synsets: str
    source: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Its classes, in ImageNet's order. Raises BadData if the installed timm does not have their list."""
        return tuple(_of_timm(self.synsets).decode().split()) if self.synsets else imagenet1k()


VARIANTS = {
    "v2": Variant("ImageNet-V2", "", "arXiv 1902.10811"),
    "a": Variant("ImageNet-A", "imagenet_a_synsets.txt", "arXiv 1907.07174"),
    "r": Variant("ImageNet-R", "imagenet_r_synsets.txt", "arXiv 2006.16241"),
    "sketch": Variant("ImageNet-Sketch", "", "arXiv 1905.13549"),
}
"""The variants by their names on the command line."""


def _of_timm(name: str) -> bytes:
    try:
        return (files("timm.data") / "_info" / name).read_bytes()
    except OSError:
        raise BadData(f"the installed timm has no {name}; install timm 1.0.20 or newer") from None


def check_variant(images: ImageSet, name: str) -> None:
    """Raise BadData if a set does not have the classes of a variant: if one is missing, or if it has others."""
    variant = VARIANTS[name]
    expected, found = set(variant.classes), set(images.classes)
    for what, classes in (("lacks", expected - found), ("has the class", found - expected)):
        if classes:
            raise BadData(
                f"{images.root} {what} {min(classes)}, and {variant.title} has {len(expected):,} classes ({len(classes):,} differ); "
                "name the folder that contains its class folders, or leave --variant out"
            )


def trained_on(images: ImageSet) -> int:
    """Return how many images are named as ImageNet's training images are, such as n01440764_10026.JPEG, as most of Imagenette's are."""
    return sum(bool(TRAINING_IMAGE.fullmatch(PurePosixPath(name).name)) for name in images.names)


def read_real_labels(path: Path | None) -> tuple[tuple[int, ...], ...]:
    """Return the reassessed labels (ReaL, arXiv 2006.07159) of ImageNet's validation images, in their order, as indices of classes.

    Args:
        path: the published `real.json`, or None for the copy in the installed timm.

    An image may have no label, or several. Raises BadData if the file cannot be read, or is not a list of lists of numbers from 0 to 999.
    """
    where = path or "timm's imagenet_real_labels.json"
    try:
        content = _of_timm("imagenet_real_labels.json") if path is None else read_regular(path, at_most=MOST_LABELS)
        labels = msgspec.json.decode(content, type=tuple[tuple[int, ...], ...])
    except OSError as error:
        raise BadData(f"{where} cannot be read ({error.strerror})") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadData(f"{where} is not a list of lists of class numbers, as real.json is ({error})") from None
    for number, each in enumerate(labels, 1):
        if any(not 0 <= label < 1000 for label in each):
            raise BadData(f"{where}: image {number} has the label {each[0] if len(each) == 1 else each}; labels are 0 to 999")
    return labels


def real_labels_of(names: Sequence[str], labels: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Return the reassessed labels of images by their names.

    Raises BadData for an image that is not named as ImageNet's validation images are, or that has no entry in `labels`.
    """
    found = []
    for name in names:
        match = VALIDATION_IMAGE.fullmatch(PurePosixPath(name).name)
        number = int(match[1]) if match else 0
        if not 1 <= number <= len(labels):
            raise BadData(
                f"{name} has no reassessed labels: they are for ILSVRC2012_val_00000001.JPEG and so on, {count(len(labels), 'image')}; "
                "leave --labels out"
            )
        found.append(labels[number - 1])
    return found
