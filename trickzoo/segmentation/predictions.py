"""Predicted masks as files."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from accelerate.utils import broadcast_object_list
from PIL import Image
from torch import Tensor

from trickzoo.data.masks import SegmentationSet
from trickzoo.drawing import palette
from trickzoo.errors import BadOption


def check_predictions(folder: Path) -> None:
    """Raise BadOption if the folder is a file, or holds files already."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise BadOption(f"{folder} {'holds files already' if folder.is_dir() else 'is a file'}; name a new folder")


@contextlib.contextmanager
def masks_in(folder: Path | None, data: SegmentationSet, chief: bool) -> Iterator[Callable[[int, Tensor], None]]:
    """Within the block, the yielded function writes the mask of an image, in the numbers of the set's own masks.

    Without a folder it does nothing.

    The masks are written beside the folder, which gets them once the block has ended without an error on all processes.
    Raises BadOption if the folder holds files already, or if the disk refuses.
    """
    if folder is None:
        yield lambda index, classes: None
        return
    check_predictions(folder)
    folder = folder.resolve()
    names, colours = mask_names(data), palette(data.classes, first=data.first)
    token = [secrets.token_hex(4)]
    broadcast_object_list(token)  # the processes write into one folder
    staged = folder.with_name(f".{folder.name}.{token[0]}")

    def write(index: int, classes: Tensor) -> None:
        image = Image.fromarray((classes + data.first).byte().cpu().numpy())
        image.putpalette(colours)
        path = staged / names[index]
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)

    try:
        staged.mkdir(parents=True, exist_ok=True)
        yield write
        if chief:  # all have written: the confusion matrix was gathered
            if folder.exists():
                folder.rmdir()
            os.replace(staged, folder)
    except OSError as error:
        raise BadOption(f"{folder} cannot be written ({error.strerror or error})") from None
    finally:
        if chief:
            shutil.rmtree(staged, ignore_errors=True)


def mask_names(data: SegmentationSet) -> list[str]:
    """Where the mask of each image goes: by the image's name alone, or its whole path where two images share a name."""
    paths = [PurePosixPath(image) for image, _ in data.pairs]
    names = [f"{path.stem}.png" for path in paths]
    return names if len(set(names)) == len(names) else [f"{path}.png" for path in paths]
