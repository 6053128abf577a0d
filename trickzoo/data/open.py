"""Images by what `--data` names: each layout that a folder can have, a tar, or a data set of the hub."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path, PurePosixPath

from trickzoo.data.imageset import ImageSet
from trickzoo.data.readers import cifar_places, hub, shards
from trickzoo.data.readers.imagenet import open_imagenet

log = logging.getLogger("trickzoo")

NAMED = 8
"""Files that a sentence names; the result file of an evaluation names all."""


def open_set(data: str | Path, *, split: str = "val", devkit: Path | None = None) -> ImageSet:
    """The labelled images of a split, "train" or "val".

    A warning counts and names the files that are not read. Raises BadData with what is wrong.

    Args:
        data: CIFAR-10's or Places365's folder, tar shards, hf:NAME, or what `open_imagenet` takes.
        devkit: as for `open_imagenet`.
    """
    images = _open(data, split, devkit)
    if images.strangers:
        warn(left_out(images))
    return images


def warn(sentence: str) -> None:
    """Log a warning about the images, in the first of several processes only: all of them open the same."""
    if os.environ.get("RANK", "0") == "0":
        log.warning("%s", sentence)


def left_out(images: ImageSet) -> str:
    """The sentence on the files of a set that are not read: how many there are, by suffix, and which."""
    names = images.strangers
    suffixes = Counter(PurePosixPath(name).suffix.lower() or "no suffix" for name in names)
    kinds = ", ".join(f"{n} {suffix}" for suffix, n in suffixes.most_common(5)) + (", …" if len(suffixes) > 5 else "")
    shown = ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
    return f"{images.root}: {len(names):,} file{'s are' if len(names) > 1 else ' is'} not read as images and left out ({kinds}): {shown}"


def _open(data: str | Path, split: str, devkit: Path | None) -> ImageSet:
    if hub.is_hub(data):
        return hub.open_hub(str(data), split)
    path = Path(data)
    if path.is_dir():
        if path.name == cifar_places.CIFAR10 or (path / cifar_places.CIFAR10).is_dir():
            return cifar_places.open_cifar10(path, split)
        if (path / cifar_places.PLACES365).is_file():
            return cifar_places.open_places365(path, split)
        if found := shards.find_shards(path, split):
            return shards.open_shards(found, path)
    return open_imagenet(path, split=split, devkit=devkit)
