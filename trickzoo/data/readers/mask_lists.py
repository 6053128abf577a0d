"""Images and masks that lists name, as CamVid has them."""

from __future__ import annotations

from pathlib import Path

from trickzoo.data.listing import below, read_classes, read_lines
from trickzoo.data.masks import SegmentationSet
from trickzoo.errors import BadData

UNLABELLED = {"unlabelled", "unlabeled", "void", "ignore"}
"""Names in a class list that are no class."""


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
