"""The wording of numbers and lists in texts."""

from __future__ import annotations

from trickzoo import wording


def test_units_and_verbs_agree_with_their_number() -> None:
    shown = [wording.count(n, unit) for n, unit in ((1, "class"), (0, "class"), (2, "box"), (1, "image"), (1000, "validation image"))]
    assert shown == ["1 class", "0 classes", "2 boxes", "1 image", "1,000 validation images"]
    verbs = [(wording.verb(1, each), wording.verb(2, each)) for each in ("is", "has", "occurs")]
    assert verbs == [("is", "are"), ("has", "have"), ("occurs", "occur")]


def test_durations_have_the_unit_that_suits_them() -> None:
    shown = [wording.duration(seconds) for seconds in (1, 80, 90, 3600, 5399, 7200, 36_000_000)]
    assert shown == ["1 second", "80 seconds", "2 minutes", "60 minutes", "90 minutes", "2.0 hours", "10,000 hours"]


def test_several_things_are_listed_with_an_and() -> None:
    assert [wording.all_of(words) for words in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_a_text_is_separated_at_its_commas() -> None:
    assert [wording.separated(text) for text in ("", "a", " a, b,,")] == [(), ("a",), ("a", "b")]
