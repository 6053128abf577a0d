"""A study's report: one HTML file that needs nothing else, and the files beside it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trickzoo import evidence
from trickzoo.files import write_atomically
from trickzoo.studies import ladder, ladder_summary, plots, transfer_summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "report.html"
Pictures = Sequence[tuple[str, bytes]]


@dataclass(frozen=True)
class Section:
    """A part of a page: `body` is HTML, from one of the templates."""

    anchor: str
    heading: str
    body: str


def page(title: str, findings: Sequence[str], sections: Sequence[Section], further: Mapping[str, Sequence[str]] | None = None) -> str:
    """A whole HTML page: what was found first, in sentences; `further` sentences are under their headings."""
    return _template("page.html")(title=title, findings=findings, further=further or {}, sections=sections)


def write_ladder(content: dict[str, Any], out: Path) -> Path:
    """Write `ladder.json`, `.csv`, `.png`, `.svg` and the report of a study's summary into `out`; return the report's path."""
    evidence.write_json(out / "ladder.json", content)
    _write_csv(out / "ladder.csv", content, content["rungs"], ("base",), "top1")
    _write_plot(out / "ladder", lambda: plots.ladder(content))
    write_atomically(out / NAME, page(f"Which tricks help? {content['title']}", content["findings"], ladder_sections(content)).encode())
    return out / NAME


def ladder_sections(content: dict[str, Any]) -> list[Section]:
    """The parts of a ladder study's report."""
    parts = (
        ("rungs", "Every rung", "rungs.html"),
        ("curves", "Training curves", "curves.html"),
        ("made", "How it was made", "made.html"),
    )
    figures = {}
    for name, draw in (("ladder", plots.ladder), ("curves", plots.curves)):
        if name == "ladder" or any(any(rung["curves"]) for rung in content["rungs"]):
            words = _in_words(content) if name == "ladder" else "Validation accuracy over the epochs, a panel for each rung."
            figures[name] = [plots.inline(draw(content, narrow=narrow), f"{name}-{narrow:d}", words) for narrow in (False, True)]
    return [
        Section(anchor, heading, _template(template)(study=content, figures=figures))
        for anchor, heading, template in parts
        if anchor != "curves" or anchor in figures
    ]


def write_transfer(content: dict[str, Any], ladder_content: dict[str, Any], out: Path, pictures: Pictures = ()) -> Path:
    """Write `transfer.json`, `.csv`, `.png`, `.svg` and one report, the ladder's parts in it; return the report's path.

    Args:
        content: what `transfer_summary.summarise` gives.
        ladder_content: the summary that it was given.
        out: the study's folder.
        pictures: as `transfer_sections` takes them.
    """
    rows = [{**rung, "task": task["task"], "measure": task["measure"]} for task in content["tasks"] for rung in task["rungs"]]
    evidence.write_json(out / "transfer.json", content)
    _write_csv(out / "transfer.csv", content, rows, ("task", "measure"), "figure", ("top1",))
    _write_plot(out / "transfer", lambda: plots.transfer(content["tasks"]))
    below = [replace(section, heading=f"The ladder: {section.heading.lower()}") for section in ladder_sections(ladder_content)]
    title = f"{transfer_summary.question(content)} {content['title']}"
    sections = [*transfer_sections(content, pictures), *below]
    further = {**transfer_summary.details(content), "The ladder itself": ladder_content["findings"]}
    write_atomically(out / NAME, page(title, transfer_summary.answers(content), sections, further).encode())
    return out / NAME


def transfer_sections(content: dict[str, Any], pictures: Pictures = ()) -> list[Section]:
    """The parts of a transfer study's report. `pictures` are of predictions: PNG or JPEG files with what each shows."""
    sections = []
    for task in content["tasks"]:
        words = _transfer_in_words(task)
        figures = [plots.inline(plots.transfer([task], narrow=narrow), f"{task['task']}-{narrow:d}", words) for narrow in (False, True)]
        body = _template("transfer.html")(study=content, task=task, figures=figures)
        sections.append(Section(task["task"], task["task"].capitalize(), body))
    if pictures:
        makers = " and ".join(f"{transfer_summary.TASKS[task['task']][1]}s" for task in content["tasks"])
        body = _template("pictures.html")(pictures=[(caption, _data_uri(image)) for caption, image in pictures])
        sections.append(Section("pictures", f"What the {makers} see", body))
    return [*sections, Section("transfer-made", "How it was made", _template("transfer_made.html")(study=content))]


def _data_uri(image: bytes) -> str:
    kinds = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}
    for magic, kind in kinds.items():
        if image.startswith(magic):
            return f"data:{kind};base64,{base64.b64encode(image).decode()}"
    raise ValueError("a report's pictures must be PNG or JPEG")


def _transfer_in_words(task: dict[str, Any]) -> str:
    means = (f"{rung['title']} {rung['top1']['mean']:.2f} % and {rung['figure']['mean']:.2f} %" for rung in task["rungs"] if rung["figure"])
    figure = transfer_summary.measure(task["measure"])
    return f"Mean top-1 accuracy and {figure} of each rung: {', '.join(means)}. The table below has the same figures."


def _in_words(content: dict[str, Any]) -> str:
    means = (f"{rung['title']} {rung['top1']['mean']:.2f} %" for rung in content["rungs"] if rung["top1"])
    return f"Mean top-1 accuracy of each rung: {', '.join(means)}. The table below has the same figures."


def _template(name: str) -> Callable[..., str]:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("trickzoo.studies"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "points": ladder_summary.points,
        "span": ladder_summary.span,
        "title": ladder_summary.title,
        "p": ladder_summary.probability,
        "rho": transfer_summary.correlation_in_words,
        "measure": transfer_summary.measure,
        "minutes": lambda seconds: f"{seconds / 60:.1f}",
        "change": lambda changes: ladder.in_words({name: tuple(pair) for name, pair in changes.items()}),
    }
    return environment.get_template(name).render


def _write_plot(path: Path, draw: Callable[[], Figure]) -> None:
    """Write a figure as `.png` and `.svg`, drawn for each, as its layout depends on the resolution."""
    write_atomically(path.with_suffix(".png"), plots.png(draw()))
    write_atomically(path.with_suffix(".svg"), plots.svg(draw(), path.name).encode())


COLUMNS = ("n", "mean", "s", "low", "high")


def _write_csv(
    path: Path, content: dict[str, Any], rungs: Sequence[dict[str, Any]], named: Sequence[str], figure: str, beside: Sequence[str] = ()
) -> None:
    """A row for each rung: its name, mean, s, n and 95 % interval of its figures and of its difference, then each seed's figure.

    Args:
        path: of the file.
        content: a study's summary, for its seeds.
        rungs: what the rows are of.
        named: keys of a rung that name the row, beside "rung" and "title".
        figure: key of a rung's figure, whose difference and seeds are given.
        beside: keys of further figures, without their differences.
    """
    shown = (*beside, figure)
    header = ["rung", "title", *named, *(f"{key}_{c}" for key in shown for c in COLUMNS)]
    header += [f"difference_{c}" for c in (*COLUMNS, "p", "p_holm", "verdict")] + [f"{figure}_seed_{seed}" for seed in content["seeds"]]

    def figures(found: dict[str, Any] | None) -> list[Any]:
        return [None] * 5 if found is None else [found["n"], found["mean"], found["s"], *(found["interval"] or (None, None))]

    def row(rung: dict[str, Any]) -> list[Any]:
        difference = rung["difference"]
        tests = [difference[key] for key in ("p", "p_holm", "verdict")] if difference else [None] * 3
        by_seed = dict(zip(rung["seeds"], rung[figure]["values"], strict=True)) if rung[figure] else {}
        first = [rung[key] for key in ("rung", "title", *named)]
        return [
            *first,
            *(cell for key in shown for cell in figures(rung[key])),
            *figures(difference),
            *tests,
            *map(by_seed.get, content["seeds"]),
        ]

    evidence.write_csv(path, header, map(row, rungs))
