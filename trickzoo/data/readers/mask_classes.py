"""The classes of masks as tools list them: names in the order of their numbers, names with colours, or names with values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trickzoo.data.listing import CLASS_LIST, check_unique, read_lines
from trickzoo.data.masks import UNLABELLED, in_words
from trickzoo.data.readers.mask_lists import read_mask_classes
from trickzoo.errors import BadData

LABEL_MAP, CAMVID, ROBOFLOW = "labelmap.txt", "label_colors.txt", "_classes.csv"
HEX = re.compile(r"(.+?)[\s,:;]+#([0-9a-fA-F]{6})")
NAME_FIRST = re.compile(r"(.+?)[\s,:;]+\(?(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})\)?(?::[^:]*:[^:]*)?")
COLOUR_FIRST = re.compile(r"\(?(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})\)?[\s,:;]+(.+)")
SHOWN = 80
"""How many characters of a line a message shows."""
LONGEST = 1000
"""How many characters a line may have."""


@dataclass(frozen=True)
class MaskClasses:
    """The classes of masks, as arguments of `SegmentationSet`.

    Attributes:
        classes: the names.
        ignored: the values of pixels that do not count.
        colours, ignored_colours: the colours of the classes and of pixels that do not count, as 0xRRGGBB; empty for masks of numbers.
    """

    classes: tuple[str, ...]
    ignored: tuple[int, ...] = ()
    colours: tuple[int, ...] = ()
    ignored_colours: tuple[int, ...] = ()


def find_classes(folders: Sequence[Path]) -> tuple[Path, MaskClasses] | None:
    """Return the list of classes in the first of these folders that has one, and its path; None if none has.

    Raises BadData if the folder has two lists, or if the list is not valid.
    """
    for folder in folders:
        found = [folder / name for name in (LABEL_MAP, CAMVID, ROBOFLOW, CLASS_LIST) if (folder / name).is_file()]
        if len(found) > 1:
            raise BadData(f"{folder} has two lists of classes, {found[0].name} and {found[1].name}; remove one")
        if found:
            return found[0], read_list(found[0])
    return None


def read_list(path: Path) -> MaskClasses:
    """Return the classes of CVAT's `labelmap.txt`, CamVid's `label_colors.txt`, Roboflow's `_classes.csv` or a `classes.txt`.

    A `classes.txt` has a name in each line, in the order of the numbers, or a name with a colour: "cat 255 0 0", "cat,255,0,0",
    "cat #ff0000" or "255 0 0 cat". Names such as void and ignore are not judged.

    Raises BadData if the file cannot be read, if only some lines have a colour, if two classes have the same name or colour, or if values
    are not 0, 1, 2, ….
    """
    if path.name == ROBOFLOW:
        return MaskClasses(*_of_values(path))
    lines = [line for line in read_lines(path) if not line.startswith("#")]
    if any(len(line) > LONGEST for line in lines):
        raise BadData(f"{path} has a line of more than {LONGEST:,} characters; it is not a list of classes")
    rows = [_coloured(line) for line in lines]
    if path.name == CLASS_LIST and not any(rows):
        return MaskClasses(*read_mask_classes(path))
    named = []
    for line, row in zip(lines, rows, strict=True):
        if row is None or not row[0]:
            raise BadData(f'{path}: "{line[:SHOWN]}" is not a class with its colour, such as "cat 255 0 0"')
        named.append(row)
    _check_colours(path, named)
    judged = [(name, colour) for name, colour in named if name.lower() not in UNLABELLED]
    if not judged:
        raise BadData(f"{path} has no class that is judged")
    rest = tuple(colour for name, colour in named if name.lower() in UNLABELLED)
    return MaskClasses(tuple(name for name, _ in judged), (), tuple(colour for _, colour in judged), rest)


def _coloured(line: str) -> tuple[str, int] | None:
    """Return the name and the colour in a line, or None if it has no colour."""
    if match := COLOUR_FIRST.fullmatch(line):
        values, name = match.groups()[:3], match[4]
    elif match := NAME_FIRST.fullmatch(line):
        values, name = match.groups()[1:], match[1]
    elif match := HEX.fullmatch(line):
        return match[1].strip(), int(match[2], 16)
    else:
        return None
    red, green, blue = map(int, values)
    return (name.strip(), red << 16 | green << 8 | blue) if max(red, green, blue) < 256 else None


def _check_colours(path: Path, named: Sequence[tuple[str, int]]) -> None:
    check_unique([name for name, _ in named], path)
    seen: dict[int, str] = {}
    for name, colour in named:
        if (other := seen.setdefault(colour, name)) != name:
            raise BadData(f"{path}: {other} and {name} have the same colour, {in_words(colour)}; give one of them another")


def _of_values(path: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the classes and the ignored values of a list with a header and lines such as "1, cat"."""
    rows = [[part.strip() for part in line.split(",", 1)] for line in read_lines(path)[1:]]
    if [row[0] for row in rows] != [str(number) for number in range(len(rows))] or not all(len(row) == 2 and row[1] for row in rows):
        raise BadData(f"{path} does not list the classes of 0, 1, 2, …, one per line; take the file that Roboflow exports")
    names = [row[1] for row in rows]
    if not names:
        raise BadData(f"{path} names no class")
    check_unique(names, path)
    return tuple(names), ()
