"""Ranges and choices of the values of dataclass fields. They are declared with the field and checked whenever the dataclass is created."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from trickzoo.errors import BadOption, check_choice


@dataclass(frozen=True)
class Range:
    """The range of a field's numbers, as text for messages and as a function that checks a number."""

    words: str
    holds: Callable[[float], bool]

    def fault(self, number: float) -> str:
        """Return why a number is not allowed, as in "must be 1 or more, not 0"; an empty text for a number within the range."""
        if abs(number) <= LARGEST:
            return "" if self.holds(number) else f"must be {self.words}, not {number:g}"
        wanted = f"at most {LARGEST:,}" if number not in (math.inf, -math.inf) and number == number else "a finite number"
        return f"must be {wanted}, not {_in_short(number)}"


@dataclass(frozen=True)
class Pattern:
    """The form of a field's text: a regular expression for the whole of it, and a description for messages."""

    expression: str
    words: str


class LowToHigh:
    """Marks a pair of numbers whose first must not be above the second."""


LARGEST = 2**53
"""The largest number that is allowed. Above it, floats do not represent every integer."""

_NOT_NEGATIVE = Range("0 or more", lambda number: number >= 0)

Count = Annotated[int, Range("1 or more", lambda number: number >= 1)]
CountOrZero = Annotated[int, _NOT_NEGATIVE]
NotNegative = Annotated[float, _NOT_NEGATIVE]
Positive = Annotated[float, Range("above 0", lambda number: number > 0)]
Probability = Annotated[float, Range("from 0 to 1", lambda number: 0 <= number <= 1)]
Fraction = Annotated[float, Range("above 0 and at most 1", lambda number: 0 < number <= 1)]
BelowOne = Annotated[float, Range("0 or more and below 1", lambda number: 0 <= number < 1)]
Seed = Annotated[int, Range(f"from 0 to {2**32 - 1}", lambda number: 0 <= number < 2**32)]


class Checked:
    """Base of dataclasses whose fields have ranges or choices. Creating one raises BadOption that names the first wrong field."""

    def __post_init__(self) -> None:
        for name, parts in _fields(type(self)).items():  # type: ignore[arg-type]  # mypy: dataclasses that are not frozen have no hash
            value = getattr(self, name)
            numbers = value if isinstance(value, tuple) else (value,)
            for number in numbers if value is not None else ():
                for part in parts:
                    if isinstance(part, Range) and (fault := part.fault(number)):
                        raise BadOption(f"{name} {fault}")
                    if get_origin(part) is Literal and isinstance(number, str):
                        check_choice(name, number, get_args(part))
                    if isinstance(part, Pattern) and not re.fullmatch(part.expression, number):
                        raise BadOption(f'{name} must be {part.words}, not "{number}"')
            if LowToHigh in parts and numbers[0] > numbers[1]:
                raise BadOption(f"{name} must go from low to high, not from {numbers[0]:g} to {numbers[1]:g}")


def _in_short(number: float) -> str:
    try:
        return f"{number:g}"
    except OverflowError:  # an integer that is too large for a float
        return "a number of more than 300 digits"


@functools.cache
def _fields(kind: type[Any]) -> dict[str, tuple[Any, ...]]:
    """Return all parts of the type of each field, such as its `Range`."""
    return {name: tuple(_parts(hint)) for name, hint in get_type_hints(kind, include_extras=True).items()}


def _parts(hint: Any) -> Iterator[Any]:
    yield hint
    for part in get_args(hint):
        yield from _parts(part)
