"""Result files: the environment in which a metric was measured, and JSON and CSV files that are written atomically."""

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
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from trickzoo.errors import BadOption, printable
from trickzoo.files import is_device, refusal, write_atomically

FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")
"""Characters with which a formula begins in spreadsheets."""
PACKAGES = (
    "trickzoo",
    "torch",
    "torchvision",
    "timm",
    "pillow",
    "numpy",
    "accelerate",
    "huggingface-hub",
    "safetensors",
    "pycocotools",
    "onnx",
    "onnxruntime",
    "openvino",
)


def environment() -> dict[str, Any]:
    """Return the commit, command, time, hardware, platform and package versions of this process, for a result file."""
    import torch

    device = f"{torch.cuda.device_count()} × {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "no GPU"
    return {
        **({"commit": found} if (found := commit()) else {}),
        "command": printable(shlex.join([Path(sys.argv[0]).name.replace("__main__.py", "trickzoo"), *sys.argv[1:]])),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "hardware": f"{os.cpu_count()} × {_cpu()}, {device}",
        "platform": platform.platform(),
        "versions": {"python": platform.python_version(), **{name: found for name in PACKAGES if (found := _version(name))}},
    }


@functools.cache
def commit() -> str | None:
    """Return the commit of the checkout that the package is run from, with "+" if tracked files differ from it.

    Outside a checkout it is the value of TRICKZOO_COMMIT, which whoever copies the files to another machine can set, otherwise None. It is
    read once for each process, because the checkout may change after its code has been loaded.
    """
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return os.environ.get("TRICKZOO_COMMIT")
    try:
        git = ["git", "--no-optional-locks", "-C", str(root)]  # without this option `status` writes to the checkout
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed.strip() else "")


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_first_process() -> bool:
    """Return whether this is the only process, or the first of those that `torchrun` or `accelerate launch` started."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def check_writable(path: Path) -> None:
    """Raise BadOption if the file `path` cannot be written. It is called before a run, whose result would otherwise be lost."""
    if path.is_dir():
        raise BadOption(f"{path} is a folder; name a file")
    if not is_device(path):
        _check_writable(path, path.parent)
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


def check_folder(path: Path, remedy: str = "name another place") -> None:
    """Raise BadOption if files cannot be written into the folder `path`, which need not exist. It is called before a run."""
    _check_writable(path, path, remedy)


def _check_writable(path: Path, folder: Path, remedy: str = "name another place") -> None:
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
    return value if not isinstance(value, str) else guarded(value, printable(value))


def guarded(text: str, shown: str | None = None) -> str:
    """Return a text, or what is `shown` of it, with an apostrophe in front if a spreadsheet would take it for a formula."""
    guard = "'" if text.lstrip("'").startswith(FORMULA) and not _is_number(text) else ""
    return guard + (text if shown is None else shown)


def unguarded(cell: str) -> str:
    """Return the text that `guarded` made a cell of."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(FORMULA) else cell


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and text.isascii() and "_" not in text
    except ValueError:
        return False
