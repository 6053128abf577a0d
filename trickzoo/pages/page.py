"""Self-contained HTML pages: findings first, then sections. Studies, trainings and evaluations write their reports with them."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from trickzoo import wording


@dataclass(frozen=True)
class Section:
    """A part of a page; `body` is HTML that one of the templates has rendered."""

    anchor: str
    heading: str
    body: str


def page(title: str, findings: Sequence[str], sections: Sequence[Section], further: Mapping[str, Sequence[str]] | None = None) -> str:
    """Return an HTML page: first the findings as sentences, then the `further` sentences under their headings, then the sections."""
    return template("trickzoo.pages", "page.html")(title=title, findings=findings, further=further or {}, sections=sections)


def template(package: str, name: str, **filters: Callable[..., Any]) -> Callable[..., str]:
    """Return the function that fills a template, which lies in the folder `templates` of a package. `filters` are its own filters."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    loader = ChoiceLoader([PackageLoader(each) for each in dict.fromkeys((package, "trickzoo.pages"))])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"count": wording.count, "unbroken": _unbroken, "breakable": _breakable, **filters}
    return environment.get_template(name).render


def data_uri(image: bytes) -> str:
    """Return the address of an image that a page contains. Raises ValueError unless it is a PNG or a JPEG file."""
    kinds = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}
    for magic, kind in kinds.items():
        if image.startswith(magic):
            return f"data:{kind};base64,{base64.b64encode(image).decode()}"
    raise ValueError("a report's pictures must be PNG or JPEG")


UNBROKEN = re.compile(r"--[a-z][a-z-]*(?: \d+)?|\d[\d.,]* %")
"""Options with their numbers, and percentages."""


def _unbroken(text: str) -> Markup:
    """Return a sentence or a command as HTML in which no line breaks within an option or before a percent sign."""
    return Markup(UNBROKEN.sub(r'<span class="unbroken">\g<0></span>', str(escape(text))))


def _breakable(name: Any) -> Markup:
    """Return the name of a field or of a file as HTML, in which lines may break after an underscore or a slash."""
    return Markup(re.sub(r"[_/](?=.)", r"\g<0><wbr>", str(escape(name))))
