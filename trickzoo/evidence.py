"""The evidence beside a number: what was run, on what, with what."""

from __future__ import annotations

import csv
import functools
import io
import json
import math
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from trickzoo.errors import BadOption, printable
from trickzoo.files import write_atomically

FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")
"""What a formula begins with in spreadsheets."""
PACKAGES = ("trickzoo", "torch", "torchvision", "timm", "pillow", "numpy", "accelerate", "huggingface-hub", "safetensors", "pycocotools")


@dataclass(frozen=True)
class Evaluation:
    """What the evaluation of a detector or a segmenter gave.

    Attributes:
        content: the figures as the result file has them.
        figures: the figures that are printed, by name, in percent; None where nothing could be judged.
        header, rows: the table of classes.
    """

    content: dict[str, Any]
    figures: dict[str, float | None]
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]


def environment() -> dict[str, Any]:
    """Commit, command, versions, machine and time, for a result file."""
    import torch

    device = f"{torch.cuda.device_count()} × {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "no GPU"
    return {
        **({"commit": found} if (found := commit()) else {}),
        "command": printable(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "hardware": f"{os.cpu_count()} × {_cpu()}, {device}",
        "platform": platform.platform(),
        "versions": {"python": platform.python_version(), **{name: found for name in PACKAGES if (found := _version(name))}},
    }


@functools.cache
def commit() -> str | None:
    """The commit of the checkout that runs, with "+" if tracked files differ from it; None outside a checkout.

    It is read once in a process: later the checkout may be another than the one whose code runs.
    """
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        git = ["git", "--no-optional-locks", "-C", str(root)]  # else `status` writes to the checkout
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed.strip() else "")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def count(n: int, unit: str) -> str:
    """Return a number with its unit, in the plural if it needs one: "1 epoch", "6 epochs"."""
    return f"{n:,} {unit}{'' if n == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a time in words, rounded to a suitable unit: "40 seconds", "12 minutes", "3.4 hours", "1,250 hours"."""
    if seconds < 90:
        return count(round(seconds), "second")
    if seconds < 90 * 60:
        return count(round(seconds / 60), "minute")
    hours = seconds / 3600
    return f"{hours:.1f} hours" if hours < 100 else f"{hours:,.0f} hours"


def check_writable(path: Path) -> None:
    """Raise BadOption now rather than after the run if the file `path` cannot be written."""
    if path.is_dir():
        raise BadOption(f"{path} is a folder; name a file")
    _check_writable(path, path.parent)


def check_apart(paths: Mapping[str, Path | None]) -> None:
    """Raise BadOption if two of these options name one place: the second would replace what the first wrote there."""
    taken: dict[Path, str] = {}
    for name, path in paths.items():
        if path is not None and (other := taken.setdefault(path.resolve(), name)) != name:
            raise BadOption(f"{other} and {name} are both {path}; name a place for each")


def check_folder(path: Path) -> None:
    """Raise BadOption now rather than after the run if files cannot be written into the folder `path`, which need not be there yet."""
    _check_writable(path, path)


def _check_writable(path: Path, folder: Path) -> None:
    try:
        while not folder.exists():
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder):  # permissions do not tell: root has all of them, on a read-only disk too
            pass
    except OSError as error:
        raise BadOption(f"{path} cannot be written: {folder}: {error.strerror}; name another place") from None


def write_json(path: Path, content: Any) -> None:
    """Write a result file, whole or not at all.

    The bytes of a file name that is not UTF-8 are written as JSON escapes, which Python reads back as it holds such names itself.
    """
    write_atomically(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace"))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table, whole or not at all, so that no cell is a formula to a spreadsheet; control characters are escaped."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_cell(cell) for cell in row] for row in (header, *rows))
    write_atomically(path, text.getvalue().encode())


def _cell(value: Any) -> Any:
    """What a spreadsheet shows as the text it is: an apostrophe stands before what it would take for a formula. Numbers stay numbers."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if value.startswith(FORMULA) and not _is_number(value) else text


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and text.isascii() and "_" not in text
    except ValueError:
        return False
