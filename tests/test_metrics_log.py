"""The log of a training, and text in its plots and in those of studies."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from trickzoo.drawing import literal_text
from trickzoo.pages import figures
from trickzoo.training import metrics_log


@pytest.mark.parametrize("name", ["5 $ and 6 $", "$\\frac{", "a_b^c", "\\alpha", "two\nlines\x1b"])
def test_names_are_drawn_as_they_are(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"step": 1, "epoch": 0, "loss": 1.0, "lr": 0.1}, {"step": 1, "epoch": 0, "top1": 50.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    drawn: list[Text] = []
    save = Figure.savefig

    def keep(figure: Figure, *args: object, **settings: object) -> None:
        save(figure, *args, **settings)  # type: ignore[arg-type]
        drawn.extend(figure.findobj(Text))  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", keep)
    assert metrics_log.plot_curves(tmp_path, name).stat().st_size > 1000
    shown = {text.get_text() for text in drawn}
    assert name.replace("\n", "\\n").replace("\x1b", "\\x1b") in shown
    assert not any(text.get_parse_math() for text in drawn)
    assert mpl.rcParams["text.parse_math"]


def test_a_row_with_a_number_that_is_larger_than_any_float_is_left_out(tmp_path: Path) -> None:
    rows = [{"step": 1, "epoch": 0, "loss": 1.0, "lr": 0.1}, {"step": 2, "epoch": 0, "loss": 10**400, "lr": 0.1}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert metrics_log.rows(tmp_path) == rows[:1]


def test_the_labels_of_a_studys_plots_are_drawn_as_they_are() -> None:
    """Labels of ticks are made when a figure is saved, not when it is drawn."""
    with literal_text():
        figure = Figure()
        axes = figure.subplots()
        axes.set_yticks([0.2, 0.8], ["$5_ or $6^", "$\\frac{$"])
    assert figures.png(figure).startswith(b"\x89PNG")
    assert "$5_ or $6^" in figures.svg(figure, "x") and "$\\frac{$" in figures.svg(figure, "x")


@pytest.mark.filterwarnings("error")
def test_a_character_that_the_font_lacks_gives_no_warning(tmp_path: Path) -> None:
    with literal_text():
        figure = Figure()
        figure.suptitle("日本")
    assert figures.png(figure).startswith(b"\x89PNG")
    with pytest.warns(UserWarning, match="missing from (current )?font"):
        figure.savefig(tmp_path / "a.png")
