"""Plots as files, and as SVG elements that take the colours of the page."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trickzoo.drawing import literal_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, FAINT, GRID, ACCENT, HELPED, HURT = "#1d2129", "#6a7280", "#d9dde3", "#2457a6", "#18794a", "#b3321f"
ROLES = {INK: "--ink", FAINT: "--faint", GRID: "--line", ACCENT: "--accent", HELPED: "--helped", HURT: "--hurt"}
"""The CSS variable of the page for each colour."""


def both(draw: Callable[[bool], Figure], name: str, description: str) -> list[str]:
    """Return a figure as SVG for a wide screen and for a narrow one. `draw` is called with whether the screen is narrow."""
    return [inline(draw(narrow), f"{name}-{narrow:d}", description) for narrow in (False, True)]


@contextmanager
def style() -> Iterator[None]:
    """Apply the fonts and colours of the pages to the figures that are drawn within the block."""
    import matplotlib

    settings: Any = {
        "font.size": 9,
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.axisbelow": True,
        "axes.xmargin": 0.06,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "svg.fonttype": "none",
        "text.parse_math": False,  # a title may contain a $
    }
    settings |= dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "ytick.labelcolor", "xtick.labelcolor"), INK)
    settings |= dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), GRID)
    with matplotlib.rc_context(settings), literal_text():
        yield


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG file with a white background."""
    image = io.BytesIO()
    with literal_text():
        figure.savefig(image, format="png", dpi=160)
    return image.getvalue()


def svg(figure: Figure, name: str) -> str:
    """Return the figure as a reproducible SVG document, whose ids depend on `name`."""
    import matplotlib

    image = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), literal_text():
        figure.savefig(image, format="svg", metadata={"Date": None, "Creator": None})
    return image.getvalue()


def inline(figure: Figure, name: str, description: str) -> str:
    """Return the figure as an `<svg>` element without a background, in the page's colours and font."""
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    text = svg(figure, name)
    text = text[text.index("<svg") :]
    head, _, rest = text.partition(">")
    width, height = (float(head.partition(f'{side}="')[2].partition("pt")[0]) for side in ("width", "height"))
    for colour, role in ROLES.items():
        rest = rest.replace(colour, f"var({role})")
    rest = re.sub(r'(id="|url\(#|href="#)', rf"\1{name}-", rest)  # makes the ids unique on the page
    label = html.escape(description, quote=True)
    return f'<svg role="img" aria-label="{label}" viewBox="0 0 {width:g} {height:g}" style="max-width:{width * 4 / 3:.0f}px">{rest}'
