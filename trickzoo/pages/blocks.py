"""The parts of a section of a report: sentences, tables, figures and commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trickzoo.pages.page import Section, template


@dataclass(frozen=True)
class Table:
    """A table. The columns from number `left` on, counted from 0, are aligned to the right. `caption` explains the columns."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    left: int = 1
    kind: str = "table"


@dataclass(frozen=True)
class Drawing:
    """A figure as SVG for a wide and for a narrow screen, as `figures.both` returns it, and its caption."""

    svgs: Sequence[str]
    caption: str
    kind: str = "drawing"


@dataclass(frozen=True)
class Text:
    """Sentences, each a paragraph; with `code` they are commands."""

    lines: Sequence[str]
    code: bool = False
    kind: str = "text"


def section(anchor: str, heading: str, *blocks: Table | Drawing | Text) -> Section:
    """Return a section of a page with these parts."""
    return Section(anchor, heading, template("trickzoo.pages", "blocks.html")(blocks=blocks))


def number(value: float | None, digits: int = 2) -> str:
    """Return a figure as a cell of a table; a dash if there is none."""
    return "–" if value is None else f"{value:,.{digits}f}"
