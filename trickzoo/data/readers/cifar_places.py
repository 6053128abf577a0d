"""CIFAR-10 and Places365 in the layouts of torchvision's readers. Nothing is downloaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torchvision import datasets

from trickzoo.data.imageset import Entry, ImageSet
from trickzoo.errors import BadData

CIFAR10 = datasets.CIFAR10.base_folder
PLACES365 = "categories_places365.txt"


@dataclass(frozen=True)
class ArraySet(ImageSet):
    """Images in an array `pixels`, (n, H, W, 3) uint8. The offset of an entry is its index in the array."""

    pixels: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 0, 0, 3), np.uint8))

    def stamps(self) -> Iterator[str]:
        """Yield the SHA-256 of the pixels, which are all in memory."""
        yield hashlib.sha256(np.ascontiguousarray(self.pixels).data).hexdigest()

    def size(self, entry: Entry) -> int:
        """Return how many bytes `read` returns for an image."""
        return len(self.read(entry))

    def read(self, entry: Entry, *, last: int | None = None) -> bytes:
        """Return the image as the bytes of a PPM file, or only the `last` bytes."""
        pixels = self.pixels[entry.offset]
        content = b"P6 %d %d 255\n" % (pixels.shape[1], pixels.shape[0]) + pixels.tobytes()
        return content if last is None else content[-last:]


def open_cifar10(path: Path, split: str) -> ImageSet | None:
    """Open CIFAR-10. Its test images are the validation set.

    `path` is `cifar-10-batches-py` or the folder that contains it. Returns None if it is neither.
    Raises BadData if files are missing or have other digests.
    """
    folder = path if path.name == CIFAR10 else path / CIFAR10
    if not folder.is_dir():
        return None
    try:
        found = datasets.CIFAR10(folder.parent, train=split == "train")
    except RuntimeError:
        raise BadData(f"{folder} is incomplete or damaged; unpack {datasets.CIFAR10.filename} there again") from None
    entries = tuple(Entry(f"{split}/{i:05}", found.classes[label], i) for i, label in enumerate(found.targets))
    layout = f"CIFAR-10, {'training' if split == 'train' else 'test'} images"
    return ArraySet(folder, layout, entries, order=tuple(found.classes), pixels=found.data)


def open_places365(path: Path, split: str) -> ImageSet | None:
    """Open Places365 (standard) in `path`, which contains its lists and its images.

    The images of 256 pixels are preferred to the large ones. Returns None if there is no list of classes.
    Raises BadData if a list is missing or has another digest, or if there is no folder of images.
    """
    if not (path / PLACES365).is_file():
        return None
    if split == "test":
        raise BadData(f"{path}: the classes of Places365's test images are not published; evaluate --split val")
    kind = "train-standard" if split == "train" else split
    folders = [f"data_{size}_standard" if split == "train" else f"{split}_{size}" for size in ("256", "large")]
    here = [folder for folder in folders if (path / folder).is_dir()]
    if not here:
        raise BadData(f"{path} has neither {folders[0]}/ nor {folders[1]}/; unpack the images of Places365 there")
    try:
        found = datasets.Places365(path, kind, small=here[0] == folders[0])
    except RuntimeError as error:
        raise BadData(f"{str(error).partition('. ')[0]}; unpack filelist_places365-standard.tar in {path}") from None
    order = tuple(sorted(found.class_to_idx, key=found.class_to_idx.__getitem__))
    below = len(str(path)) + 1
    entries = tuple(Entry(Path(file[below:]).as_posix(), order[label]) for file, label in found.imgs)
    return ImageSet(path, f"Places365, {here[0]}", entries, order=order)
