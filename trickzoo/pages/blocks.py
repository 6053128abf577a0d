"""The parts of a section of a report: sentences, tables, figures and commands."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trickzoo.pages.page import Section, data_uri, template

if TYPE_CHECKING:
    from PIL import Image


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


LICENCE = "The pictures are from the data set, and its licence applies to them: read it before you publish this page."


@dataclass(frozen=True)
class Pictures:
    """Small pictures: the caption and the address (`thumbnail`) of each. The licence of the data set applies to them, as a note says."""

    views: Sequence[tuple[str, str]]
    note: str = LICENCE
    kind: str = "pictures"

    @classmethod
    def of(cls, views: Sequence[tuple[str, str]]) -> tuple[Pictures, ...]:
        """Return the block with these pictures, or nothing if there are none."""
        return (cls(views),) if views else ()


def thumbnail(image: Image.Image, side: int = 240) -> str:
    """Return the address of an image for `Pictures`: it is reduced to fit a square of this side, and kept in the page as JPEG."""
    small = image.convert("RGB")
    small.thumbnail((side, side))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return data_uri(file.getvalue())


def section(anchor: str, heading: str, *blocks: Table | Drawing | Text | Pictures) -> Section:
    """Return a section of a page with these parts."""
    return Section(anchor, heading, template("trickzoo.pages", "blocks.html")(blocks=blocks))


def number(value: float | None, digits: int = 2) -> str:
    """Return a figure as a cell of a table; a dash if there is none."""
    return "–" if value is None else f"{value:,.{digits}f}"
