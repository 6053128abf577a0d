"""Writing predicted masks, and the counts of each image, to files."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from accelerate.utils import broadcast_object_list
from PIL import Image
from torch import Tensor

from trickzoo.data.masks import SegmentationSet
from trickzoo.drawing import palette
from trickzoo.errors import BadOption
from trickzoo.files import file_name, refusal, temporary_name
from trickzoo.output_files import PREDICTIONS
from trickzoo.segmentation import count_files
from trickzoo.segmentation.metrics import ConfusionMatrix


def check_predictions(folder: Path) -> None:
    """Raise BadOption if the folder already contains files, or is a file itself."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise BadOption(f"{folder} {'already contains files' if folder.is_dir() else 'is a file'}; name a new folder")


@dataclass(frozen=True)
class Writer:
    """Writes what a segmenter predicts for a set into a folder, or does nothing without one."""

    folder: Path | None
    data: SegmentationSet
    names: Sequence[str] = ()
    palette: Sequence[int] = ()

    def mask(self, index: int, classes: Tensor) -> None:
        """Write the (H, W) predicted classes of an image as a PNG file."""
        if self.folder is None:
            return
        image = Image.fromarray((classes + self.data.first).byte().cpu().numpy())
        image.putpalette(self.palette)
        path = self.folder / self.names[index]
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)

    def counts(self, found: ConfusionMatrix) -> None:
        """Write the counts of each image to `predictions.csv`, as `count_files.write` does."""
        if self.folder is not None:
            count_files.write(self.folder / PREDICTIONS, self.data, found)


@contextlib.contextmanager
def masks_in(folder: Path | None, data: SegmentationSet, chief: bool) -> Iterator[Writer]:
    """Yield the writer of predicted masks, which writes them in the class numbers of the set's own masks.

    They are written to a temporary folder beside `folder`. It is renamed once the block has ended without an error on all processes.

    Args:
        folder: a new or empty folder, or None.
        data: the set whose images are predicted.
        chief: whether this is the main process, which renames the folder.

    Raises BadOption if the folder already contains files, or if it cannot be written.
    """
    if folder is None:
        yield Writer(None, data)
        return
    check_predictions(folder)
    folder = folder.resolve()
    name = [temporary_name()]
    broadcast_object_list(name)  # all processes write into the folder that the first one names
    staged = folder.with_name(name[0])
    try:
        staged.mkdir(parents=True, exist_ok=True)
        yield Writer(staged, data, mask_names(data), palette(data.classes, first=data.first))
        if chief:  # gathering the confusion matrix waited for all processes, so all masks are written
            if folder.exists():
                folder.rmdir()
            os.replace(staged, folder)
    except OSError as error:
        raise BadOption(f"{folder} cannot be written ({refusal(folder, error)}); name another --predictions") from None
    finally:
        if chief:
            shutil.rmtree(staged, ignore_errors=True)


def mask_names(data: SegmentationSet) -> list[str]:
    """Return the path of each image's mask below the folder of masks, in the set's order.

    A mask is named after its image, without the image's folder and suffix. If that would give two masks one name, all masks keep the path
    and the suffix of their images.
    """
    paths = [PurePosixPath(image) for image, _ in data.pairs]
    names = [file_name(path.stem, ".png") for path in paths]
    return names if len(set(names)) == len(names) else [str(path.with_name(file_name(path.name, ".png"))) for path in paths]
