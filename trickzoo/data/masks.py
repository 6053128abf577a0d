"""Images with a class for each pixel. Readers: `data.voc`, and here ADE20K's layout, lists of images and masks, and the generated shapes.

Whatever a file has, a mask as read has 0 … K - 1, and 255 where a pixel is neither trained nor judged.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trickzoo.data import images as image_files
from trickzoo.data.listing import below, images_by_stem, read_classes, read_lines
from trickzoo.data.shapes import CLASSES, Drawing, Shapes, draw_all
from trickzoo.errors import BadData, nearest

IGNORE = 255
UNLABELLED = {"unlabelled", "unlabeled", "void", "ignore"}
"""Names in a class list that are no class."""
ADE20K_SPLITS = {"train": "training", "val": "validation"}
ADE20K_CLASSES = 150


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


def open_ade20k(root: Path, split: str = "train") -> SegmentationSet:
    """ADE20K's scene parsing layout: `images/training`, `annotations/training` and the same for validation.

    In the files 0 is "other", which is ignored, and 1 … 150 become 0 … 149. Classes are named by `objectInfo150.txt`, or by their
    number without it. Raises BadData with what is wrong.
    """
    if not (root / "annotations").is_dir() and (root / "ADEChallengeData2016").is_dir():
        root = root / "ADEChallengeData2016"
    folder = ADE20K_SPLITS.get(split, split)
    if folder not in ADE20K_SPLITS.values():
        raise BadData(f'ADE20K has no split "{split}"{nearest(split, ADE20K_SPLITS)}; there are {", ".join(ADE20K_SPLITS)}')
    photographs, masks = (images_by_stem(root / kind / folder) for kind in ("images", "annotations"))
    for kind, stems, other in (("mask", photographs, masks), ("image", masks, photographs)):
        alone = sorted(stems.keys() - other.keys())
        if alone:
            raise BadData(f"{root}: {len(alone)} of {len(stems)} in {folder} have no {kind}, the first {alone[0]}")
    pairs = tuple((f"images/{folder}/{photographs[stem]}", f"annotations/{folder}/{masks[stem]}") for stem in sorted(photographs))
    return SegmentationSet(root, f"ADE20K {folder}", _ade20k_classes(root / "objectInfo150.txt"), pairs, first=1, ignored=(0,))


def _ade20k_classes(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return tuple(f"class {number}" for number in range(1, ADE20K_CLASSES + 1))
    rows = [line.split("\t") for line in read_lines(path)[1:]]
    names = tuple(row[-1].split(",")[0].strip() for row in rows)
    if [row[0].strip() for row in rows] != [str(number) for number in range(1, ADE20K_CLASSES + 1)]:
        raise BadData(f"{path} does not list classes 1 to {ADE20K_CLASSES}, one a line; take the file that ADE20K distributes")
    return names


def open_lists(root: Path, split: str = "train") -> SegmentationSet:
    """Images and masks by a list, as CamVid has them: `split.txt` with "image mask" a line, both below the root, and `classes.txt`.

    Classes are counted from 0; one named unlabelled, void or ignore at the list's end is not judged. Raises BadData with what is wrong.
    """
    if not root.is_dir():
        raise BadData(f"{root} is not a folder")
    path = root / f"{split}.txt"
    if not path.is_file():
        there = sorted(file.stem for file in root.glob("*.txt") if file.stem != "classes")
        raise BadData(f'{root} has no split "{split}"; {"there are " + ", ".join(there) if there else "train.txt and val.txt are wanted"}')
    pairs = []
    for number, line in enumerate(read_lines(path), 1):
        names = line.split()
        if len(names) != 2:
            raise BadData(f"{path}, line {number}: an image and a mask are wanted, separated by a space")
        image, mask = (below(root, name, f"{path}, line {number},") for name in names)
        for name in (image, mask):
            if not (root / name).is_file():
                raise BadData(f"{root / name} is not there, and {path.name} lists it")
        pairs.append((image, mask))
    classes, ignored = read_mask_classes(root / "classes.txt")
    return SegmentationSet(root, f"lists of {split}", classes, tuple(pairs), ignored=ignored)


def read_mask_classes(path: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The classes of a list that count, from 0, and the values of the others, which must stand at the end: numbers do not change.

    Raises BadData with what is wrong.
    """
    names = read_classes(path)
    ignored = tuple(value for value, name in enumerate(names) if name.lower() in UNLABELLED)
    count = len(names) - len(ignored)
    if ignored != tuple(range(count, len(names))):
        raise BadData(f'{path}: "{names[ignored[0]]}" is no class and must come after the classes; renumber the masks, or give it 255')
    return names[:count], ignored


def segmentation_shapes(shapes: Shapes) -> SegmentationSet:
    """Generated shapes: 0 is the background, distractors among it. All are drawn at once and kept in memory."""
    drawings = draw_all(shapes)
    pairs = tuple((f"{shapes.split}/{index}", f"{shapes.split}/{index}") for index in range(len(drawings)))
    return SegmentationSet(Path("shapes"), shapes.description, ("background", *CLASSES), pairs, drawings=drawings)
