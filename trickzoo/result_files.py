"""Result files: checks before a run that they can be written, and JSON and CSV files that are written atomically."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trickzoo.errors import BadOption, printable
from trickzoo.files import is_device, refusal, write_atomically

FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")
"""Characters with which a formula begins in spreadsheets."""


def check_writable(path: Path) -> None:
    """Raise BadOption if the file `path` cannot be written. It is called before a run, whose result would otherwise be lost."""
    if path.is_dir():
        raise BadOption(f"{path} is a folder; name a file")
    if not is_device(path):
        check_folder(path.parent, path=path)
    elif not os.access(path, os.W_OK):
        raise BadOption(f"{path} cannot be written; name another place")


def check_apart(paths: Mapping[str, Path | None]) -> None:
    """Raise BadOption if two options (path by name of the option) name the same file or folder, because one would replace the other."""
    taken: dict[Path, str] = {}
    for name, path in paths.items():
        if path is not None and (other := taken.setdefault(path.resolve(), name)) != name:
            raise BadOption(f"{other} and {name} are both {path}; name a different path for each")


RESULTS = (".json", ".csv", ".html", "")
"""Suffixes of the files that a command may replace with its results."""


def check_outputs(outputs: Mapping[str, Path | None], inputs: Iterable[str | Path | None] = ()) -> None:
    """Raise BadOption if a result cannot be written, or would replace another result, something that is read, or a file of another kind.

    Args:
        outputs: path of each result by the name of its option.
        inputs: what the command reads: paths, or names that are not paths.
    """
    check_apart(outputs)
    for path in filter(None, outputs.values()):
        check_writable(path)
    existing = {path.resolve(): f"{name} {path}" for name, path in outputs.items() if path is not None and path.exists()}
    for path in (Path(each).resolve() for each in inputs if existing and each is not None):
        if path in existing:
            raise BadOption(f"{existing[path]} would replace a file that the command reads; name another file")
    for path, shown in existing.items():
        if path.suffix.lower() not in RESULTS:
            raise BadOption(f"{shown} would replace a file that is not a result; name another file")


def check_overwrite(path: Path, overwrite: bool) -> None:
    """Raise BadOption if a file exists that may not be replaced."""
    if path.exists() and not overwrite:
        raise BadOption(f"{path} exists; name another file, or overwrite it with --overwrite (overwrite=True in Python)")


def check_folder(folder: Path, remedy: str = "name another place", *, path: Path | None = None) -> None:
    """Raise BadOption, which names `path` or the folder, if files cannot be written there. It need not exist."""
    path = path or folder
    try:
        while not folder.exists():
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder):  # permissions do not tell: root may write everywhere, but not to a read-only disk
            pass
    except OSError as error:
        reason = f"{folder}: {error.strerror}" if folder.is_dir() else refusal(path, error)
        raise BadOption(f"{path} cannot be written: {reason}; {remedy}") from None


def write_json(path: Path, content: Any) -> None:
    """Write a result file as JSON, atomically. Raises NotWritten if the operating system refuses.

    Bytes of file names that are not UTF-8 are written as JSON escapes, which Python reads back as surrogate escapes.
    """
    write_atomically(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace"))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as CSV, atomically. Raises NotWritten if the operating system refuses.

    A text that a spreadsheet would take for a formula is preceded by an apostrophe, and control characters are escaped.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_cell(cell) for cell in row] for row in (header, *rows))
    write_atomically(path, text.getvalue().encode())


def _cell(value: Any) -> Any:
    return value if not isinstance(value, str) else escape_formula(value, printable(value))


def escape_formula(text: str, shown: str | None = None) -> str:
    """Return a text, or what is `shown` of it, with an apostrophe in front if a spreadsheet would take it for a formula."""
    guard = "'" if text.lstrip("'").startswith(FORMULA) and not _is_number(text) else ""
    return guard + (text if shown is None else shown)


def unescape_formula(cell: str) -> str:
    """Return the text that `escape_formula` made a cell of."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(FORMULA) else cell


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and text.isascii() and "_" not in text
    except ValueError:
        return False
