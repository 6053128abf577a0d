"""Numbers and lists in texts: a count with its unit, a verb that agrees with it, a time, and several things."""

from __future__ import annotations

from collections.abc import Iterable


def count(n: int, unit: str) -> str:
    """Return a number with its unit, in the plural if it needs one: "1 epoch", "6 epochs", "2 classes"."""
    return f"{n:,} {unit if n == 1 else f'{unit}es' if unit.endswith(('s', 'x')) else f'{unit}s'}"


def verb(n: int, singular: str) -> str:
    """Return a verb in the form that agrees with a number: "is" or "are", "has" or "have", "occurs" or "occur"."""
    return singular if n == 1 else {"is": "are", "has": "have"}.get(singular, singular.removesuffix("s"))


def all_of(items: Iterable[object]) -> str:
    """Return a list for a sentence: "a", "a and b", "a, b and c". `items` must not be empty."""
    *others, last = map(str, items)
    return f"{', '.join(others)} and {last}" if others else last


def separated(text: str) -> tuple[str, ...]:
    """Return the parts of a text that are separated by commas, stripped of blanks and without empty ones: "a, b," → ("a", "b")."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def duration(seconds: float) -> str:
    """Return a time in words, rounded to a suitable unit: "40 seconds", "12 minutes", "3.4 hours", "1,250 hours"."""
    if seconds < 90:
        return count(round(seconds), "second")
    if seconds < 90 * 60:
        return count(round(seconds / 60), "minute")
    hours = seconds / 3600
    return f"{hours:.1f} hours" if hours < 100 else f"{hours:,.0f} hours"
