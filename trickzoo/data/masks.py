"""Images with a class for each pixel. Readers: `data.voc`, and here ADE20K's layout, lists of images and masks, and the generated shapes.

Whatever a file has, a mask as read has 0 … K - 1, and 255 where a pixel is neither trained nor judged.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trickzoo.data import images as image_files
from trickzoo.data.classes import check_classes
from trickzoo.data.shapes import CLASSES, Drawing, Shapes, draw_all
from trickzoo.errors import BadData

IGNORE = 255


@dataclass(frozen=True)
class SegmentationSet:
    """Images with masks.

    Attributes:
        root: the folder that the names are below.
        layout: what was found, in words.
        classes: names of 0 … K - 1.
        pairs: (image, mask) paths below the root.
        first: what the files have for class 0.
        ignored: what the files have for pixels that do not count; 255 is always among it.
        drawings: the images, where they are generated and no files.
    """

    root: Path
    layout: str
    classes: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    first: int = 0
    ignored: tuple[int, ...] = ()
    drawings: tuple[Drawing, ...] = ()

    def __post_init__(self) -> None:
        if not self.pairs:
            raise BadData(f"{self.root}: {self.layout} has no image")
        if len(self.classes) > IGNORE:
            raise BadData(f"{self.root}: {len(self.classes)} classes; there can be {IGNORE}, as {IGNORE} is for pixels that do not count")

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, index: int) -> tuple[Image.Image, NDArray[np.uint8]]:
        """An image, RGB, and its mask, (H, W) of classes and `IGNORE`.

        Raises BadData if either is unreadable, if their sizes differ, or if the mask has a value that is no class.
        """
        if self.drawings:
            return Image.fromarray(self.drawings[index].image), self.drawings[index].semantic
        name, mask_name = (self.root / part for part in self.pairs[index])
        image = image_files.read(name)
        stated = image_files.decode_mask(image_files.content(mask_name), str(mask_name))
        height, width = stated.shape
        if image.size != (width, height):
            raise BadData(
                f"{mask_name} is {width} × {height} pixels and its image {image.width} × {image.height}; they must be of one size"
            )
        mask = self._table[np.clip(stated.astype(np.int64), -1, IGNORE + 1)]
        if (mask < 0).any():
            value = int(stated[mask < 0][0])
            last = self.first + len(self.classes) - 1
            raise BadData(
                f"{mask_name} has the value {value}; the {len(self.classes)} classes are {self.first} to {last}, "
                f"and {', '.join(map(str, sorted({*self.ignored, IGNORE})))} is not judged"
            )
        return image, mask.astype(np.uint8)

    def name(self, index: int) -> str:
        """The name of an image, below the root."""
        return self.pairs[index][0]

    def is_annotated(self, index: int) -> bool:
        """Whether an image has any annotation."""
        return True

    @property
    def generated(self) -> bool:
        """Whether the images were generated and are no files."""
        return bool(self.drawings)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the annotations."""
        return ()

    def in_order(self, classes: Sequence[str]) -> SegmentationSet:
        """The set itself. Raises BadData if its classes are not these, in this order: masks hold numbers and not names."""
        check_classes(self.root, self.classes, classes)
        for number, (own, wanted) in enumerate(zip(self.classes, classes, strict=True)):
            if own != wanted:
                raise BadData(f'{self.root} has "{own}" as class {number}, the model "{wanted}"; renumber the masks')
        return self

    @functools.cached_property
    def _table(self) -> NDArray[np.int16]:
        """From what files have to classes; -1, as the last value of all and for those below 0, is no class."""
        table = np.full(IGNORE + 2, -1, np.int16)
        table[self.first : self.first + len(self.classes)] = np.arange(len(self.classes))
        table[[*self.ignored, IGNORE]] = IGNORE
        return table

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over the names of images, masks and classes, the masks' content and the images' lengths; it tells one set from another.

        Masks are small, and an annotation that is mended keeps its name. Images are not read: of a large set that takes minutes, in every
        process and at every start, and another image under an old name has another length, as good as always. Computed once; raises
        BadData for a file that cannot be read.
        """
        what = [self.layout if self.drawings else "", self.classes, self.pairs, self.first, self.ignored]
        whole = hashlib.sha256(json.dumps(what).encode())
        for name, mask_name in () if self.drawings else self.pairs:
            whole.update(image_files.length(self.root / name).to_bytes(8, "big"))
            whole.update(hashlib.sha256(image_files.content(self.root / mask_name)).digest())
        return whole.hexdigest()


def segmentation_shapes(shapes: Shapes) -> SegmentationSet:
    """Generated shapes: 0 is the background, distractors among it. All are drawn at once and kept in memory."""
    drawings = draw_all(shapes)
    pairs = tuple((f"{shapes.split}/{index}", f"{shapes.split}/{index}") for index in range(len(drawings)))
    return SegmentationSet(Path("shapes"), shapes.description, ("background", *CLASSES), pairs, drawings=drawings)
