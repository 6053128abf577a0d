"""Images and masks that lists name, as CamVid has them."""

from __future__ import annotations

import re
from pathlib import Path

from trickzoo.data.listing import Files, no_twin, read_classes, read_lines
from trickzoo.data.masks import SegmentationSet
from trickzoo.errors import BadData

UNLABELLED = {"unlabelled", "unlabeled", "void", "ignore"}
"""Names in a class list that are no class."""
LONGEST = 8192
"""Characters of a line: two paths have no more on any system."""


def open_lists(root: Path, split: str = "train") -> SegmentationSet:
    """Images and masks by a list, as CamVid has them: `split.txt` with "image mask" a line, both below the root, and `classes.txt`.

    The two are separated by spaces or a tab, and may have spaces in their own names.
    Classes are counted from 0; one named unlabelled, void or ignore at the list's end is not judged. Raises BadData with what is wrong.
    """
    if not root.is_dir():
        raise BadData(f"{root} is not a folder")
    path = root / f"{split}.txt"
    if not path.is_file():
        there = sorted(file.stem for file in root.glob("*.txt") if file.stem != "classes")
        raise BadData(f'{root} has no split "{split}"; {"there are " + ", ".join(there) if there else "train.txt and val.txt are wanted"}')
    files = Files(root)
    pairs = [_pair(line, files, f"{path.name}, line {number},") for number, line in enumerate(read_lines(path), 1)]
    no_twin([image for image, _ in pairs], path)
    classes, ignored = read_mask_classes(root / "classes.txt")
    return SegmentationSet(root, f"lists of {split}", classes, tuple(pairs), ignored=ignored)


def _pair(line: str, files: Files, where: str) -> tuple[str, str]:
    """The image and the mask that a line names. Raises BadData in the name of `where` it stands."""
    gaps = [gap.span() for gap in re.finditer(r"\t+" if "\t" in line else r"\s+", line)]
    if not gaps or len(line) > LONGEST:
        raise BadData(f"{files.root / where} does not name an image and a mask, separated by a space")
    if len(gaps) == 1:
        image, mask = (files.require(name, where) for name in (line[: gaps[0][0]], line[gaps[0][1] :]))
        return image, mask
    halves = ((files.find(line[:start]), files.find(line[end:])) for start, end in gaps)
    found = [(image, mask) for image, mask in halves if image and mask]
    if len(found) != 1:
        what = "could be read as several pairs" if found else "does not name an image and a mask that are there"
        raise BadData(f"{files.root / where} {what}; separate the two by a tab")
    return found[0]


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
