"""The result of evaluating a detector or a segmenter, as the command line prints and writes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trickzoo.pages.page import Section


@dataclass(frozen=True)
class AnnotatedEvaluation:
    """The result of evaluating a detector or a segmenter.

    Attributes:
        content: the metrics as they are written to the result file.
        metrics: the printed metrics in percent, by name; None for a metric that is not defined because no object or pixel counts.
        header, rows: the table with one row for each class.
        report: takes a number of pictures, and returns the findings as sentences, and the sections of a report.
    """

    content: dict[str, Any]
    metrics: dict[str, float | None]
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    report: Callable[[int], tuple[list[str], list[Section]]]
