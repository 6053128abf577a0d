"""The log of a training run: a line for each step and each evaluation, a table of the epochs, and a plot of the curves."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any, ClassVar

from trickzoo.errors import printable
from trickzoo.files import write_atomically, writing
from trickzoo.output_files import CURVES, LOG, METRICS
from trickzoo.training.measures import MEASURES, metrics

log = logging.getLogger("trickzoo")

STEP = ("step", "epoch", "loss", "lr")


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of the `metrics.jsonl` in a folder. Lines that cannot be read, such as an incomplete last line, are left out."""
    return _read(folder / METRICS)[0]


def _read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the rows of a log, and the number of damaged lines. An incomplete last line, left by a kill, does not count."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    found = [row for row in map(_row, whole) if row is not None]
    return found, len(whole) - len(found)


def _row(line: str) -> dict[str, Any] | None:
    """Return a line of a log as a row, or None if the loop cannot have written it."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    numbers = isinstance(row, dict) and all(_is_finite(row[name]) for name in STEP if name in row)
    return row if numbers and {"step", "epoch"} <= row.keys() and ("lr" in row) == ("loss" in row) else None


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max  # an integer in JSON can be larger than any float


class Metrics:
    """The log of a training run, with a JSON line for each step and each evaluation.

    Opening the log of a resumed training removes the lines after `step`. If lines are damaged, the log is kept as `metrics.jsonl.damaged`,
    and a new one begins with the other lines. Raises NotWritten if a file cannot be written.

    Args:
        path: the file.
        step: number of steps that the training had taken at the checkpoint that it resumes from; 0 starts an empty log.
    """

    REMEDY: ClassVar = {"remedy": "make room, or name another --out"}

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        with writing(path, **self.REMEDY):
            kept, damaged = _read(path) if step and path.exists() else ([], 0)
            if damaged:
                aside = path.with_name(f"{path.name}.damaged")
                path.replace(aside)
                log.warning("%s has %d lines that cannot be read; it is now %s, and the curves lack these steps", path, damaged, aside)
        content = "".join(json.dumps(row) + "\n" for row in kept if row["step"] <= step)
        write_atomically(path, content.encode(), **self.REMEDY)
        with writing(path, **self.REMEDY):
            self.file = path.open("ab", buffering=0)

    def write(self, row: dict[str, Any]) -> None:
        """Append a line. Raises NotWritten if it cannot be written."""
        line = (json.dumps(row) + "\n").encode()
        with writing(self.path, **self.REMEDY):
            if self.file.write(line) < len(line):  # if only a part fits on the disk, no error is raised
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def write_log(folder: Path) -> Path:
    """Write `log.csv` from the metrics in `folder`, and return its path.

    It has a line for each epoch, with the number of steps, the mean training loss, the last learning rate, and the metrics of the
    evaluation, if the epoch has one. Raises NotWritten if a file cannot be written.
    """
    epochs: dict[float, list[dict[str, Any]]] = {}
    for row in rows(folder):
        epochs.setdefault(row["epoch"], []).append(row)
    evaluations = {epoch: next((metrics(row) for row in found if "loss" not in row), {}) for epoch, found in epochs.items()}
    columns = list(dict.fromkeys(name for found in evaluations.values() for name in found if name not in STEP))
    lines = [",".join(["epoch", "step", "loss", "lr", *columns])]
    for epoch, found in epochs.items():
        steps = [row for row in found if "loss" in row]
        if not steps:  # all lines of the epoch were damaged
            continue
        measured = (f"{evaluations[epoch][name]:.4f}" if name in evaluations[epoch] else "" for name in columns)
        loss = sum(row["loss"] for row in steps) / len(steps)
        lines.append(",".join([f"{epoch + 1:.0f}", f"{steps[-1]['step']:.0f}", f"{loss:.5f}", f"{steps[-1]['lr']:.6g}", *measured]))
    write_atomically(folder / LOG, ("\n".join(lines) + "\n").encode())
    return folder / LOG


def plot_curves(folder: Path, title: str, measure: str = "top1") -> Path:
    """Plot the loss, the learning rate and a metric of the evaluations, from the metrics in `folder`, and return the path of `curves.png`.

    Args:
        folder: folder of `metrics.jsonl`, to which the plot is written.
        title: title of the plot.
        measure: name of the metric, one of `MEASURES`.

    Raises NotWritten if a file cannot be written.
    """
    from trickzoo.drawing import literal_text

    with literal_text():
        write_atomically(folder / CURVES, _curves(rows(folder), title, measure))
    return folder / CURVES


def _curves(found: list[dict[str, Any]], title: str, measure: str) -> bytes:
    """Return the plot of the rows of a log, as PNG."""
    from matplotlib.figure import Figure

    steps = [row for row in found if "loss" in row]
    evaluations = [row for row in found if row.get(measure) is not None]
    per_epoch = sum(row["epoch"] == steps[0]["epoch"] for row in steps) if steps else 1
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    loss, rate, accuracy = figure.subplots(1, 3)
    x = [row["step"] / per_epoch for row in steps]
    loss.plot(x, [row["loss"] for row in steps], color="0.8", linewidth=0.7)
    window = max(1, min(per_epoch, len(steps) // 10))
    smooth = [sum(row["loss"] for row in steps[i : i + window]) / window for i in range(0, len(steps) - window + 1, max(1, window // 4))]
    loss.plot([x[i * max(1, window // 4) + window - 1] for i in range(len(smooth))], smooth, color="C0")
    loss.set_title(f"training loss, mean of {window} steps")
    rate.plot(x, [row["lr"] for row in steps], color="C1")
    rate.set_title("learning rate")
    accuracy.plot([row["step"] / per_epoch for row in evaluations], [row[measure] for row in evaluations], "o-", color="C2", markersize=3)
    accuracy.set_title(f"validation {MEASURES[measure]}, %" + (f"\n{evaluations[-1][measure]:.2f} at the end" if evaluations else ""))
    for axes in (loss, rate, accuracy):
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(printable(title))
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    return image.getvalue()
