"""Images by what `--data` names: each layout that a folder can have, a tar, or a data set of the hub."""

from __future__ import annotations

from pathlib import Path

from trickzoo.data.imageset import ImageSet
from trickzoo.data.readers import cifar_places, hub, shards
from trickzoo.data.readers.imagenet import open_imagenet


def open_set(data: str | Path, *, split: str = "val", devkit: Path | None = None) -> ImageSet:
    """The labelled images of a split, "train" or "val". Raises BadData with what is wrong.

    Args:
        data: CIFAR-10's or Places365's folder, tar shards, hf:NAME, or what `open_imagenet` takes.
        devkit: as for `open_imagenet`.
    """
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
