"""The report of a training run: one self-contained HTML page in its folder, and the predictions that it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trickzoo.files import write_atomically
from trickzoo.output_files import NETWORK, REPORT
from trickzoo.pages import figures
from trickzoo.pages.blocks import Drawing, Table, Text, section
from trickzoo.pages.page import Section, page
from trickzoo.recipes.collection import flattened
from trickzoo.training import metrics_log
from trickzoo.training.job import Job
from trickzoo.training.measures import MEASURES
from trickzoo.wording import duration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIELDS = {
    "n_train": "training images",
    "n": "validation images",
    "num_classes": "classes",
    "majority": "largest class, % of the validation images",
}
"""Fields of a result that the section on the data shows, with their names for the reader."""
DIGESTS = {"data_digest": "training data, start of the SHA-256", "val_digest": "validation data, start of the SHA-256"}
HARDWARE = ("command", "seed", "processes", "micro_batch", "wall_seconds", "date", "hardware", "processor", "threads", "platform", "commit")


def write(job: Job, found: dict[str, Any], pictures: int) -> Path:
    """Write `report.html` and the predictions of the last evaluation into the folder of a training run, and return the path of the report.

    It must be called in the process that ran the training, after it. Raises NotWritten if a file cannot be written.

    Args:
        job: the training.
        found: its result, as `job.run` returns it.
        pictures: up to how many pictures of each kind of validation image the report has.
    """
    task, folder = job.task, job.machine.out
    task.write_predictions(folder)
    recipe = found["recipe"]
    sections = [
        *_curves(folder, task.measure),
        *task.sections(pictures),
        data_section(found, task.notes),
        _next_steps(folder / NETWORK),
        provenance_section(found),
    ]
    title = f"Training of {recipe['model']}, recipe {recipe['name']}"
    write_atomically(folder / REPORT, page(title, task.findings(), sections).encode())
    return folder / REPORT


def _curves(folder: Path, measure: str) -> list[Section]:
    """Return the section of the training's curves, if there are epochs to draw."""
    rows = metrics_log.rows(folder)
    losses: dict[float, list[float]] = {}
    for row in rows:
        if "loss" in row:
            losses.setdefault(row["epoch"], []).append(row["loss"])
    reached = {row["epoch"]: row[measure] for row in rows if row.get(measure) is not None}
    if not losses:
        return []

    def draw(narrow: bool) -> Figure:
        with figures.style():
            from matplotlib.figure import Figure

            figure = Figure(figsize=(4.3, 4.6) if narrow else (9.6, 2.8), layout="constrained")
            loss, measured = figure.subplots(*((2, 1) if narrow else (1, 2)))
            loss.plot(
                [epoch + 1 for epoch in losses],
                [sum(each) / len(each) for each in losses.values()],
                "o-",
                color=figures.ACCENT,
                markersize=3,
            )
            loss.set_title("training loss, mean of each epoch")
            measured.plot([epoch + 1 for epoch in reached], list(reached.values()), "o-", color=figures.HELPED, markersize=3)
            measured.set_title(f"validation {MEASURES[measure]}, %")
            for axes in (loss, measured):
                axes.set_xlabel("epoch")
                axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
                axes.grid()
            return figure

    svgs = figures.both(draw, "curves", f"Training loss and validation {MEASURES[measure]} over the epochs.")
    return [section("curves", "The training", Drawing(svgs, "log.csv and metrics.jsonl in the same folder have the numbers."))]


def data_section(found: Mapping[str, Any], notes: Sequence[str]) -> Section:
    """Return the section on the images: their numbers, the warnings, and how often each class occurs if the result states it."""
    given = [(title, found[name]) for name, title in FIELDS.items() if found.get(name) is not None]
    rows = [(title, f"{value:.2f}" if isinstance(value, float) else _plain(value)) for title, value in given]
    rows += [(title, str(found[name])[:12]) for name, title in DIGESTS.items() if found.get(name)]
    blocks: list[Table | Text] = [Table(("what", "value"), rows)]
    if notes:
        blocks.append(Text(notes))
    if isinstance(found.get("data_summary"), dict):
        parts = {part: found["data_summary"][part]["classes"] for part in ("train", "val") if part in found["data_summary"]}
        names = dict.fromkeys(name for classes in parts.values() for name in classes)
        counts = [(name, *(_plain(next(iter(classes.get(name, {0: 0}).values()))) for classes in parts.values())) for name in names]
        blocks.append(Table(("class", *parts), counts, "Objects, or pixels, of each class."))
    return section("data", "The images", *blocks)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "none"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _next_steps(weights: Path) -> Section:
    """Return the section that names the next commands."""
    folder = weights.parent
    lines = (
        f"trickzoo predict IMAGES --model {folder}",
        f"trickzoo export {weights.with_name('model.onnx')} --model {folder} --input image",
        f"trickzoo compare {folder} ANOTHER-FOLDER",
    )
    about = "On the command line, to predict, to write the network for other programs, and to compare it with another training run:"
    python = f'import trickzoo\ntrickzoo.load("{folder}").predict("IMAGE").found'
    commands = [Text([line], code=True) for line in lines]
    return section("on", "Next steps", Text([about]), *commands, Text(["In Python:"]), Text([python], code=True))


def provenance_section(found: Mapping[str, Any]) -> Section:
    """Return the section on how the figures were made."""
    rows = [(name, _plain(found[name])) for name in HARDWARE if found.get(name) is not None and name != "wall_seconds"]
    if found.get("wall_seconds") is not None:
        rows.append(("duration", duration(found["wall_seconds"])))
    rows += [("versions", ", ".join(f"{name} {version}" for name, version in found.get("versions", {}).items()))]
    recipe = [(name, "none" if value is None else _plain(value)) for name, value in flattened(found.get("recipe", {})).items()]
    blocks = [Table(("what", "value"), rows, left=2), *([Table(("field of the recipe", "value"), recipe, left=2)] if recipe else [])]
    return section("made", "How it was made", *blocks)
