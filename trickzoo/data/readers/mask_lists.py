"""Images and masks that are named in lists, as in CamVid."""

from __future__ import annotations

import re
from pathlib import Path

from trickzoo.data.listing import CLASS_LIST, Files, check_unique, read_classes, read_lines, visible
from trickzoo.data.masks import UNLABELLED, SegmentationSet
from trickzoo.errors import BadData

LONGEST = 8192
"""How many characters a line may have. Two paths are shorter on every system."""


def open_lists(root: Path, split: str = "train") -> SegmentationSet:
    """Open images and masks that a list names. The folder contains `classes.txt` and, for each split, a list such as `train.txt`.

    A line of the list names an image and its mask, relative to the root, separated by spaces or a tab. The names themselves may contain
    spaces. Masks contain class numbers from 0, in the order of `classes.txt`. Classes named unlabelled, void or ignore at its end are not
    judged. Raises BadData if a list or a file is missing, or if a line does not name an image and a mask.
    """
    if not root.is_dir():
        raise BadData(f"{root} is not a folder")
    path = root / f"{split}.txt"
    if not path.is_file():
        there = [file.stem for file in visible(root, "*.txt") if file.stem != "classes"]
        raise BadData(f'{root} has no split "{split}"; {"there are " + ", ".join(there) if there else "write train.txt and val.txt"}')
    files = Files(root)
    pairs = [_pair(line, files, f"{path.name}, line {number},") for number, line in enumerate(read_lines(path), 1)]
    check_unique([image for image, _ in pairs], path)
    classes, ignored = read_mask_classes(root / CLASS_LIST)
    return SegmentationSet(root, f"lists of {split}", classes, tuple(pairs), ignored=ignored)


def _pair(line: str, files: Files, where: str) -> tuple[str, str]:
    """Return the image and the mask that a line names. Raises BadData, which begins with `where`, if they cannot be determined."""
    gaps = [gap.span() for gap in re.finditer(r"\t+" if "\t" in line else r"\s+", line)]
    if not gaps or len(line) > LONGEST:
        raise BadData(f"{files.root / where} does not name an image and a mask, separated by a space")
    if len(gaps) == 1:
        image, mask = (files.require(name, where) for name in (line[: gaps[0][0]], line[gaps[0][1] :]))
        return image, mask
    halves = ((files.find(line[:start]), files.find(line[end:])) for start, end in gaps)
    found = [(image, mask) for image, mask in halves if image and mask]
    if len(found) != 1:
        what = "could be read as several pairs" if found else "does not name an existing image and an existing mask"
        raise BadData(f"{files.root / where} {what}; separate the two by a tab")
    return found[0]


def read_mask_classes(path: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the classes of a list without those that are not judged, and the mask values of the latter.

    Raises BadData if names that are not judged come before classes, since the classes would get other numbers; and as `read_classes` does.
    """
    names = read_classes(path)
    ignored = tuple(value for value, name in enumerate(names) if name.lower() in UNLABELLED)
    count = len(names) - len(ignored)
    if ignored != tuple(range(count, len(names))):
        raise BadData(f'{path}: "{names[ignored[0]]}" is not a class and must come after the classes; renumber the masks, or give it 255')
    return names[:count], ignored
