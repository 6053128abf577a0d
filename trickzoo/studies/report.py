"""A study's report: one HTML file that needs nothing else, and the files beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trickzoo.evaluation import result
from trickzoo.studies import ladder, plots, summary
from trickzoo.weights.files import write_atomically

NAME = "report.html"


@dataclass(frozen=True)
class Section:
    """A part of a page: `body` is HTML, from one of the templates."""

    anchor: str
    heading: str
    body: str


def page(title: str, findings: Sequence[str], sections: Sequence[Section]) -> str:
    """A whole HTML page: what was found first, in sentences, then the sections."""
    return _template("page.html")(title=title, findings=findings, sections=sections)


def write_ladder(content: dict[str, Any], out: Path) -> Path:
    """Write `ladder.json`, `.csv`, `.png`, `.svg` and the report of a study's summary into `out`; return the report's path."""
    result.write_json(out / "ladder.json", content)
    _write_csv(content, out / "ladder.csv")
    write_atomically(out / "ladder.png", plots.png(plots.ladder(content)))
    write_atomically(out / "ladder.svg", plots.svg(plots.ladder(content), "ladder").encode())
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


def _in_words(content: dict[str, Any]) -> str:
    means = (f"{rung['title']} {rung['top1']['mean']:.2f} %" for rung in content["rungs"] if rung["top1"])
    return f"Mean top-1 accuracy of each rung: {', '.join(means)}. The table below has the same figures."


def _template(name: str) -> Callable[..., str]:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("trickzoo.studies"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "points": summary.points,
        "span": summary.span,
        "title": summary.title,
        "p": summary.probability,
        "minutes": lambda seconds: f"{seconds / 60:.1f}",
        "change": lambda changes: ladder.in_words({name: tuple(pair) for name, pair in changes.items()}),
    }
    return environment.get_template(name).render


def _write_csv(content: dict[str, Any], path: Path) -> None:
    """A row for each rung: mean, s, n and 95 % interval of its accuracy and of its difference, then each seed's accuracy."""
    columns = ("n", "mean", "s", "low", "high")
    header = ["rung", "title", "base", *(f"top1_{c}" for c in columns), *(f"difference_{c}" for c in (*columns, "p", "p_holm", "verdict"))]

    def figures(found: dict[str, Any] | None) -> list[Any]:
        return [None] * 5 if found is None else [found["n"], found["mean"], found["s"], *(found["interval"] or (None, None))]

    def row(rung: dict[str, Any]) -> list[Any]:
        difference = rung["difference"]
        tests = [difference[key] for key in ("p", "p_holm", "verdict")] if difference else [None] * 3
        by_seed = dict(zip(rung["seeds"], rung["top1"]["values"], strict=True)) if rung["top1"] else {}
        named = [rung["rung"], rung["title"], rung["base"]]
        return [*named, *figures(rung["top1"]), *figures(difference), *tests, *(by_seed.get(seed) for seed in content["seeds"])]

    result.write_csv(path, header + [f"top1_seed_{seed}" for seed in content["seeds"]], map(row, content["rungs"]))
