"""Messages are one line without control characters, whatever the names in them contain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickzoo.errors import BadData, Diverged, TrickzooError, UnknownName, WeightsUnavailable, printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("resnet50_d", "resnet50_d"),
        ("rot [alt] – Größe 1:2 \\ %s {x}", "rot [alt] – Größe 1:2 \\ %s {x}"),
        ("\x1b]0;title\x07red", "\\x1b]0;title\\x07red"),
        ("\x9b31mred", "\\x9b31mred"),
        ("two\nlines\r\tand\b\x00", "two\\nlines\\r\\tand\\x08\\x00"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("\u2066\u200e\u2028\ufeff", "\\u2066\\u200e\\u2028\\ufeff"),
        ("caf\udce9.jpg", "caf\\xe9.jpg"),
        ("half \ud83d", "half \\ud83d"),
        ("👩‍👧 می‌خواهم", "👩‍👧 می‌خواهم"),
    ],
)
def test_control_characters_in_names_are_escaped(name: str, shown: str) -> None:
    assert printable(name) == shown
    assert str(TrickzooError(name)) == shown


@given(st.text(st.characters()))
def test_printable_text_is_one_line_that_can_be_encoded(text: str) -> None:
    shown = printable(text)
    shown.encode()
    assert len(shown.splitlines()) <= 1
    assert printable(shown) == shown


def test_a_loss_that_is_not_finite_raises_diverged_not_bad_data() -> None:
    assert not issubclass(Diverged, BadData | ValueError)
    assert Diverged.status == 2


@pytest.mark.parametrize("kind", [BadData, WeightsUnavailable, lambda name: UnknownName("class", name, ["a\x1b"])])
def test_every_error_is_one_line(kind: type[TrickzooError]) -> None:
    assert "\\x1b[2J\\n" in str(kind("\x1b[2J\n"))
    assert "\x1b" not in str(kind("\x1b[2J\n"))
