"""A CSV file of labelled images: one row for each image, with its path and its class.

The first row names the columns: one of `PATHS` or else of `IDS`, one of `CLASSES`, and, if the table assigns the images to splits, one of
`PARTS`. Other columns are ignored. Values are separated by commas, semicolons or tabs. Without such a first row, a table of two or three
columns contains the path, the class and the split, in this order. Paths may lack the suffix of the image, as in the tables of Kaggle. They
are relative to the folder of the file, unless another folder is named, or they are absolute paths of files below that folder.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from trickzoo.data import images as image_files
from trickzoo.data.classes import classes_of_labels
from trickzoo.data.imageset import Entry, ImageSet
from trickzoo.data.layouts import is_table, split_of
from trickzoo.data.listing import Files, check_unique, read_text, same_form, visible
from trickzoo.errors import BadData
from trickzoo.result_files import unescape_formula
from trickzoo.wording import count

PATHS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "image_name", "name")
IDS = ("image_id", "imageid", "img_id", "id_code", "id")
"""Columns of paths if there is none of `PATHS`: in other tables they number the rows."""
CLASSES = ("label", "class", "class_name", "category", "target", "labels")
PARTS = ("split", "set", "subset", "part")
BYTES = 64 << 20
"""How many bytes a table may have."""
SHOWN = 80
"""How many characters of a cell a message shows."""


class Row(NamedTuple):
    """A row of a table: the path and the class as they are written, and train, val or test; empty if the table has no such column."""

    path: str
    label: str
    split: str
    line: int


def open_table(path: Path, split: str | None, *, folder: Path | None = None) -> ImageSet:
    """Open the images of a table.

    Args:
        path: the file.
        split: "train", "val" or "test"; None for all images. Of a table without splits, all images are returned.
        folder: the folder that the paths in the table are relative to; None is that of the file.

    Raises BadData for a row without a path or a class, for a path that occurs twice or does not exist, and if the table has no image of the
    split.
    """
    rows = read_rows(path, labelled=True)
    mine = [row for row in rows if split is None or row.split in ("", split)]
    if not mine:
        there = ", ".join(dict.fromkeys(row.split for row in rows))
        hint = "; --val-fraction 0.2 takes some of train for it" if split == "val" and there == "train" else ""
        raise BadData(f'{path} has no image of the split "{split}", only of {there}{hint}')
    files = Files(folder or path.parent, "; --images names another folder that contains the images")
    names = [files.require_image(row.path, f"{path.name}, line {row.line},") for row in mine]
    check_unique(names, path)
    try:
        labels, order = classes_of_labels([row.label for row in mine])
    except BadData as error:
        raise BadData(f"{path}: {error}") from None
    entries = tuple(Entry(name, label) for name, label in zip(names, labels, strict=True))
    return ImageSet(files.root, f"the table {path.name}", entries, order=order)


def splits_of(path: Path) -> tuple[str, ...]:
    """Return the names of the splits that a table has, or nothing if it has none. Raises BadData as `read_rows` does."""
    return tuple(dict.fromkeys(row.split for row in read_rows(path, labelled=True) if row.split))


def suggested(folder: Path) -> str:
    """Return the end of a message that names a table of labelled images directly in a folder, or "" if there is none.

    Of several, it is one that is named after the training split, or else the first.
    """
    tables = [file for file in visible(folder) if is_table(file) and file.is_file() and _is_labelled(file)]
    if not tables:
        return ""
    table = next((file for file in tables if split_of(file.stem) == "train"), tables[0])
    return f"; if {table} names the classes of the images, pass it as --data, and the folder of its images as --images"


def _is_labelled(path: Path) -> bool:
    try:
        return bool(read_rows(path, labelled=True))
    except BadData:
        return False


def read_rows(path: Path, *, labelled: bool) -> list[Row]:
    """Return the rows of a table. If `labelled` is not set, it must have splits in place of classes.

    Raises BadData if the file cannot be read or is not such a table.
    """
    rows = _cells(path)
    columns, first = _columns(path, rows, labelled)
    found = []
    for line, cells in rows[first:]:
        if any(cell.strip() for cell in cells[len(rows[0][1]) :]):
            raise BadData(
                f"{path}, line {line}: more values than the {count(len(rows[0][1]), 'column')}; write a value with a comma in quotes"
            )
        name, label, split = (cells[at].strip() if at is not None and at < len(cells) else "" for at in columns)
        for what, at, value in (("path", columns[0], name), ("class", columns[1], label), ("split", columns[2], split)):
            if at is not None and not value:
                raise BadData(f"{path}, line {line}: the {what} is missing")
        if split and split_of(split) is None:
            raise BadData(f'{path}, line {line}: there is no split "{split[:SHOWN]}"; write train, val or test')
        found.append(Row(name, same_form(label), split_of(split) or "", line))
    if not found:
        raise BadData(f"{path} has no image")
    return found


def _cells(path: Path) -> list[tuple[int, list[str]]]:
    """Return the number of each line that is not empty, and its cells."""
    text = read_text(path, at_most=BYTES)
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
        return [(reader.line_num, list(map(unescape_formula, cells))) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise BadData(f"{path} is not a table of comma-separated values ({error})") from None


def _columns(path: Path, rows: Sequence[tuple[int, list[str]]], labelled: bool) -> tuple[tuple[int | None, int | None, int | None], int]:
    """Return the indices of the columns of paths, classes and splits, and the number of header rows.

    Raises BadData if the columns are not known, or two could be the same one.
    """
    if not rows:
        raise BadData(f"{path} is empty")
    names = [cell.strip().lower() for cell in rows[0][1]]
    found = [[at for at, name in enumerate(names) if name in known] for known in (PATHS, CLASSES, PARTS)]
    for several in found:
        if len(several) > 1:
            raise BadData(f'{path}: the columns "{names[several[0]]}" and "{names[several[1]]}" mean the same; rename one')
    place, label, split = (at[0] if at else None for at in found)
    if place is None:
        place = next((names.index(name) for name in IDS if name in names), None)
    if place is not None and (label if labelled else split) is not None:
        return (place, label if labelled else None, split), 1
    is_image = image_files.is_image_name(rows[0][1][0].strip())
    if is_image and len(names) in (2, 3) and labelled:
        return (0, 1, 2 if len(names) == 3 else None), 0
    wanted = "path and label, and split if it has one" if labelled else "path and split"
    shown = ", ".join(names)[:SHOWN]
    raise BadData(f"{path}: the columns are {shown}; name those of the images {wanted}")
