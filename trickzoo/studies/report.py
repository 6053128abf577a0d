"""A study's report: one self-contained HTML file, and JSON, CSV and plots beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from trickzoo import result_files, wording
from trickzoo.files import write_atomically
from trickzoo.output_files import LADDER, REPORT, TRANSFER
from trickzoo.pages import figures
from trickzoo.pages.figures import both
from trickzoo.pages.page import Section, data_uri, page, template
from trickzoo.studies import ladder, plots, transfer_words, words
from trickzoo.studies.records import LadderRung, LadderStudy, Study, StudyRung, TaskStudy, TransferRung, TransferStudy
from trickzoo.studies.results import SCRATCH
from trickzoo.studies.samples import Difference, Sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from trickzoo.studies.examples import Example


def write_ladder(study: LadderStudy, out: Path) -> Path:
    """Write `ladder.json`, `.csv`, `.png`, `.svg` and the report of a ladder study into `out`; return the report's path."""
    _write_json(out / LADDER, study)
    header = ("rung", "title", "base", *_columns("top1"), *DIFFERENCE, *_seeds("top1", study))
    result_files.write_csv(out / "ladder.csv", header, (_ladder_row(rung, study) for rung in study.rungs))
    _write_plot(out / "ladder", lambda: plots.ladder(study))
    write_atomically(out / REPORT, page(f"Which tricks help? {study.title}", study.findings, ladder_sections(study)).encode())
    return out / REPORT


def ladder_sections(study: LadderStudy) -> list[Section]:
    """Return the sections of a ladder study's report."""
    drawn = {"ladder": both(lambda narrow: plots.ladder(study, narrow=narrow), "ladder", _in_words(study))}
    curves = any(any(rung.curves) for rung in study.rungs)
    if curves:
        description = "Validation accuracy over the epochs, a panel for each rung."
        drawn["curves"] = both(lambda narrow: plots.curves(study, narrow=narrow), "curves", description)
    parts = [("rungs", "Every rung", "rungs.html"), ("made", "How it was made", "made.html")]
    if curves:
        parts.insert(1, ("curves", "Training curves", "curves.html"))
    return [Section(anchor, heading, _template(template)(study=study, figures=drawn)) for anchor, heading, template in parts]


def write_transfer(study: TransferStudy, below: LadderStudy, out: Path, pictures: Sequence[Example] = ()) -> Path:
    """Write `transfer.json`, `.csv`, `.png`, `.svg` and one report, which includes the ladder's sections; return the report's path.

    Args:
        study: the summary from `transfer_summary.summarise`.
        below: the summary of the ladder study that the backbones come from.
        out: the study's folder.
        pictures: predictions on some validation images.
    """
    _write_json(out / TRANSFER, study)
    header = ("rung", "title", "task", "measure", *_columns("top1"), *_columns("figure"), *DIFFERENCE, *_seeds("figure", study))
    rows = (row for task in study.tasks for row in _transfer_rows(task, study))
    result_files.write_csv(out / "transfer.csv", header, rows)
    _write_plot(out / "transfer", lambda: plots.transfer(study.tasks))
    of_ladder = [replace(section, heading=f"The ladder: {section.heading.lower()}") for section in ladder_sections(below)]
    sections = [*transfer_sections(study, pictures), *of_ladder]
    first = 0 if plots.is_scatter(study.tasks) else 1  # with a few rungs, the gain that may transfer is the first thing to know
    further = {**transfer_words.details(study), "The ladder itself": below.findings[first:]}
    title = f"{transfer_words.question(study)} {study.title}"
    write_atomically(out / REPORT, page(title, [*below.findings[:first], *transfer_words.answers(study)], sections, further).encode())
    return out / REPORT


def transfer_sections(study: TransferStudy, pictures: Sequence[Example] = ()) -> list[Section]:
    """Return the sections of a transfer study's report. `pictures` are predictions on some validation images."""
    sections = [_task_section(study, task) for task in study.tasks]
    if pictures:
        makers = " and ".join(f"{transfer_words.TASKS[task.task][1]}s" for task in study.tasks)
        shown = [(each.caption, [(name, data_uri(image)) for name, image in each.views]) for each in pictures]
        body = _template("pictures.html")(pictures=shown)
        sections.append(Section("pictures", f"Predictions of the {makers}", body))
    return [*sections, Section("transfer-made", "How it was made", _template("transfer_made.html")(study=study))]


def _task_section(study: TransferStudy, task: TaskStudy) -> Section:
    drawn = both(lambda narrow: plots.transfer([task], narrow=narrow), task.task, _transfer_in_words(task))
    scatter = plots.is_scatter([task])
    return Section(task.task, task.task.capitalize(), _template("transfer.html")(study=study, task=task, figures=drawn, scatter=scatter))


def _transfer_in_words(task: TaskStudy) -> str:
    means = (f"{rung.title} {rung.top1.mean:.2f} % and {rung.figure.mean:.2f} %" for rung in task.rungs if rung.top1 and rung.figure)
    figure = transfer_words.measure(task.measure)
    return f"Mean top-1 accuracy and {figure} of each rung: {', '.join(means)}. The table below has the same figures."


def _in_words(study: LadderStudy) -> str:
    means = (f"{rung.title} {rung.top1.mean:.2f} %" for rung in study.rungs if rung.top1)
    return f"Mean top-1 accuracy of each rung: {', '.join(means)}. The table below has the same figures."


def _template(name: str) -> Callable[..., str]:
    return template(
        "trickzoo.studies",
        name,
        points=words.points,
        of_seeds=words.of_seeds,
        span=words.span,
        title=words.title,
        p=words.probability,
        duration=wording.duration,
        rho=transfer_words.correlation_in_words,
        uneven_seeds=transfer_words.uneven_seeds,
        measure=transfer_words.measure,
        minutes=lambda seconds: f"{seconds / 60:.1f}",
        change=ladder.in_words,
    )


def _write_json(path: Path, study: Study) -> None:
    """Write a summary with the kind of study first, and commands, environments and findings last."""
    content = msgspec.to_builtins(study)
    last = {key: content.pop(key) for key in ("commands", "environments", "findings")}
    result_files.write_json(path, {"what": content.pop("what"), **content, **last})


def _write_plot(path: Path, draw: Callable[[], Figure]) -> None:
    """Write a figure as `.png` and `.svg`. It is drawn for each, because its layout depends on the resolution."""
    write_atomically(path.with_suffix(".png"), figures.png(draw()))
    write_atomically(path.with_suffix(".svg"), figures.svg(draw(), path.name).encode())


# ---------------------------------------------------------------------------------------------------------------------
# tables for programs: a row for each rung


def _columns(figure: str) -> tuple[str, ...]:
    return tuple(f"{figure}_{column}" for column in ("n", "mean", "s", "low", "high"))


DIFFERENCE = (*_columns("difference"), *(f"difference_{column}" for column in ("p", "p_holm", "verdict", "detectable")))


def _seeds(figure: str, study: Study) -> tuple[str, ...]:
    return tuple(f"{figure}_seed_{seed}" for seed in study.seeds)


def _cells(found: Sample | None) -> list[Any]:
    """Return the cells of `_columns`."""
    return [None] * 5 if found is None else [found.n, found.mean, found.s, *(found.interval or (None, None))]


def _difference_cells(found: Difference | None) -> list[Any]:
    """Return the cells of `DIFFERENCE`."""
    return [*_cells(found), *([found.p, found.p_holm, found.verdict, found.detectable] if found else [None] * 4)]


def _by_seed(rung: StudyRung, study: Study) -> list[Any]:
    return [rung.by_seed.get(seed) for seed in study.seeds]


def _ladder_row(rung: LadderRung, study: LadderStudy) -> list[Any]:
    return [rung.rung, rung.title, rung.base, *_cells(rung.top1), *_difference_cells(rung.difference), *_by_seed(rung, study)]


def _transfer_rows(task: TaskStudy, study: TransferStudy) -> Iterator[list[Any]]:
    if scratch := task.scratch:
        values = dict(zip(scratch.seeds, scratch.figure.values, strict=True))
        cells = [*_cells(None), *_cells(scratch.figure), *_difference_cells(None)]
        yield [SCRATCH, "from random weights", task.task, task.measure, *cells, *map(values.get, study.seeds)]
    for rung in task.rungs:
        yield _transfer_row(rung, task, study)


def _transfer_row(rung: TransferRung, task: TaskStudy, study: TransferStudy) -> list[Any]:
    cells = [*_cells(rung.top1), *_cells(rung.figure), *_difference_cells(rung.difference)]
    return [rung.rung, rung.title, task.task, task.measure, *cells, *_by_seed(rung, study)]
