"""What annotated sets hold, against what their class lists say.

It is looked at before a training starts, told to the user in a few lines, and kept in the result file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from trickzoo.errors import BadData

SHOWN = 10
"""Classes that a line names; the result file has all."""
NOT_JUDGED = 255
"""The value of a mask's pixels that are neither trained on nor judged, in every layout."""


@dataclass(frozen=True)
class Survey:
    """How often each class occurs in a set.

    Attributes:
        unit: what is counted.
        counts: of each class of the set, in its order: objects that train and are judged, or such pixels.
        images: with at least one of these, of each class.
        left_out: crowd and difficult objects, or pixels that are not judged.
        values: the values that the masks' files have, each with its pixels; empty for boxes.
        first: the value of the first class in the masks' files.
    """

    unit: Literal["objects", "pixels"]
    counts: Mapping[str, int]
    images: Mapping[str, int]
    left_out: int
    values: Mapping[int, int] = field(default_factory=dict)
    first: int = 0

    @property
    def total(self) -> int:
        """Of all classes."""
        return sum(self.counts.values())

    @property
    def absent(self) -> list[str]:
        """The classes that never occur."""
        return [name for name, count in self.counts.items() if not count]

    @property
    def alone(self) -> str | None:
        """The one class that all judged pixels have, where there are several classes."""
        present = [name for name, count in self.counts.items() if count]
        return present[0] if self.unit == "pixels" and len(present) == 1 < len(self.counts) else None


class Annotated(Protocol):
    """What is asked of a set, whether it has boxes or masks."""

    @property
    def root(self) -> Path: ...

    @property
    def names(self) -> Sequence[str]:
        """Of the images, below the root."""

    @property
    def contents(self) -> Sequence[bytes]:
        """A digest of each image's file; none where the images are generated."""

    @property
    def survey(self) -> Survey: ...


@dataclass(frozen=True)
class Summary:
    """What the user is told, a line each, and what the result file keeps.

    Attributes:
        amounts: how often each class occurs.
        odd: what makes figures mean less than they seem to.
        content: all of it for the result file.
    """

    amounts: tuple[str, ...]
    odd: tuple[str, ...]
    content: dict[str, Any]

    @property
    def notes(self) -> tuple[str, ...]:
        """All lines."""
        return (*self.amounts, *self.odd)


def check(train: Annotated, val: Annotated) -> None:
    """Raise BadData where a training would be pointless: nothing to learn, one class alone in all masks, or nothing that can be judged."""
    learnt, judged = train.survey, val.survey
    if not learnt.total:
        raise BadData(f"{train.root}: {_nothing(learnt)} in the training images, so there is nothing to learn; name others with --train")
    if learnt.alone:
        raise BadData(f"{train.root}: every judged pixel of the training masks is {learnt.alone}; {_hint(learnt)}")
    if not judged.total:
        raise BadData(f"{val.root}: {_nothing(judged)} in the validation images, so nothing can be judged; name others with --val")


def summary_of_both(train: Annotated, val: Annotated) -> Summary:
    """What training and validation images hold, and how many are in both by their content."""
    first = dict(zip(reversed(train.contents), reversed(train.names), strict=False))
    both = [(name, first[digest]) for digest, name in zip(val.contents, val.names, strict=False) if digest in first]
    trained, judged = summary_of(train, "training"), summary_of(val, "validation")
    odd = [*trained.odd, *judged.odd]
    if both:
        odd.append(
            f"{len(both):,} of {len(val.names):,} validation images are training images too ({both[0][0]} is {both[0][1]}): "
            "the figures say little of other images"
        )
    content = {"train": trained.content, "val": judged.content, "val_images_in_train": len(both)}
    return Summary((*trained.amounts, *judged.amounts), tuple(odd), content)


def summary_of(data: Annotated, what: str = "images") -> Summary:
    """What one set holds, `what` being its images in the notes."""
    survey = data.survey
    content: dict[str, Any] = {
        "images": len(data.names),
        "copies": len(_copies(data)),
        survey.unit: survey.total,
        f"{survey.unit}_left_out": survey.left_out,
        "classes": {name: {survey.unit: count, "images": survey.images[name]} for name, count in survey.counts.items()},
        "classes_absent": survey.absent,
    }
    if survey.values:
        content["mask_values"] = {str(value): pixels for value, pixels in survey.values.items()}
    amounts = (f"{what}: {len(data.names):,} images, {_amounts(survey)}", *_absent(what, survey))
    return Summary(amounts, tuple(_odd(what, data)), content)


def _hint(survey: Survey) -> str:
    """What may be wrong with masks in which classes are missing."""
    absent = _listed(survey.absent)
    if len(survey.absent) == 1 and NOT_JUDGED in survey.values:
        number = list(survey.counts).index(survey.absent[0]) + survey.first
        return (
            f"{absent} never occurs, and the only other value is {NOT_JUDGED}, which is not judged: did you mean {number}? "
            "Masks hold the number of each pixel's class"
        )
    return f"{absent} never occur{'s' if len(survey.absent) == 1 else ''}, and the values in the files are {_ranges(survey.values)}"


def _nothing(survey: Survey) -> str:
    left_out = {"objects": "crowd or difficult", "pixels": "of a value that is not judged"}[survey.unit]
    kind = survey.unit[:-1]
    return f"every {kind} is {left_out}" if survey.left_out else f"there is no {kind}"


def _absent(what: str, survey: Survey) -> list[str]:
    """A line on the classes that never occur, if there are any and others do."""
    if not survey.total or survey.alone or not survey.absent:
        return []
    return [f"{what}: never there: {_listed(survey.absent)} ({len(survey.absent):,} of {len(survey.counts):,} classes)"]


def _odd(what: str, data: Annotated) -> list[str]:
    """A line for each thing that makes figures mean less than they seem to."""
    survey, copies, lines = data.survey, _copies(data), []
    if not survey.total:
        lines.append(f"{what}: {_nothing(survey)}, so nothing can be judged and every figure is empty")
    if survey.alone:
        lines.append(f"{what}: every judged pixel is {survey.alone}; {_hint(survey)}")
    if copies:
        lines.append(f"{what}: {len(copies):,} images are copies of others ({copies[0][0]} is {copies[0][1]})")
    return lines


def _amounts(survey: Survey) -> str:
    ordered = sorted(((count, name) for name, count in survey.counts.items() if count), key=lambda each: -each[0])
    of_all = 100 / max(survey.total, 1)
    parts = [f"{name} {count:,}" if survey.unit == "objects" else f"{name} {of_all * count:.1f} %" for count, name in ordered[:SHOWN]]
    parts += [f"{len(ordered) - SHOWN} more classes"] if len(ordered) > SHOWN else []
    left_out = {"objects": "crowd or difficult", "pixels": "not judged"}[survey.unit]
    return (
        f"{survey.total:,} {survey.unit}{': ' if parts else ''}{', '.join(parts)}"
        + (f"; {survey.left_out:,} {left_out}" if survey.left_out else "")
        + (f"; mask values {_ranges(survey.values)}" if survey.values else "")
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _ranges(values: Mapping[int, int]) -> str:
    """0, 1, 2, 255 → 0 to 2, 255."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and runs[-1][-1] == value - 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def _copies(data: Annotated) -> list[tuple[str, str]]:
    """Images with the content of an earlier one, and the name of that."""
    if max(Counter(data.contents).values(), default=1) == 1:
        return []
    first: dict[bytes, str] = {}
    pairs = zip(data.contents, data.names, strict=True)
    return [(name, first[digest]) for digest, name in pairs if first.setdefault(digest, name) != name]
