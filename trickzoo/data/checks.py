"""Summaries of annotated sets, and checks of the sets against their class lists.

They are computed before a training run starts, shown to the user in a few lines, and stored in the result file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trickzoo.errors import BadData
from trickzoo.wording import count, verb

if TYPE_CHECKING:
    from trickzoo.data.annotated import AnnotatedSet, Survey

SHOWN = 10
"""How many classes a line names. The result file contains all of them."""


@dataclass(frozen=True)
class Summary:
    """A summary of one or two sets, as lines for the user and as content of the result file.

    Attributes:
        amounts: lines on how often each class occurs.
        odd: lines on what limits the meaning of the figures, such as classes that never occur.
        content: the whole summary for the result file.
    """

    amounts: tuple[str, ...]
    odd: tuple[str, ...]
    content: dict[str, Any]

    @property
    def notes(self) -> tuple[str, ...]:
        """All lines for the user."""
        return (*self.amounts, *self.odd)


def check(train: AnnotatedSet, val: AnnotatedSet) -> None:
    """Raise BadData if a training run would be pointless: no object or pixel to learn, one class only in all masks, or nothing to judge."""
    learnt, judged = train.survey, val.survey
    if not learnt.total:
        why = f" ({'; '.join(train.notes)})" if train.notes else ""
        raise BadData(
            f"{train.root}: {_nothing(learnt)} in the training images{why}, so there is nothing to learn; name others with --train"
        )
    if learnt.alone:
        raise BadData(f"{train.root}: every judged pixel of the training masks is {learnt.alone}; {_hint(learnt)}")
    if not judged.total:
        why = f" ({'; '.join(val.notes)})" if val.notes else ""
        raise BadData(f"{val.root}: {_nothing(judged)} in the validation images{why}, so nothing can be judged; name others with --val")


def summary_of_both(train: AnnotatedSet, val: AnnotatedSet) -> Summary:
    """Return the summary of training and validation images, with the number of validation images that are training images too."""
    first = dict(zip(reversed(train.contents), reversed(train.names), strict=False))
    both = [(name, first[digest]) for digest, name in zip(val.contents, val.names, strict=False) if digest in first]
    trained, judged = summary_of(train, "training"), summary_of(val, "validation")
    odd = [*trained.odd, *judged.odd]
    if both:
        odd.append(
            f"{len(both):,} of {count(len(val.names), 'validation image')} {verb(len(both), 'occurs')} among the training images too "
            f"({both[0][0]} is {both[0][1]}): their figures say little about new images"
        )
    content = {"train": trained.content, "val": judged.content, "val_images_in_train": len(both)}
    return Summary((*trained.amounts, *judged.amounts), tuple(odd), content)


def summary_of(data: AnnotatedSet, what: str = "images") -> Summary:
    """Return the summary of one set. `what` is how the notes call its images."""
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
    amounts = (f"{what}: {count(len(data.names), 'image')}, {_amounts(survey)}", *_absent(what, survey))
    return Summary(amounts, tuple(_odd(what, data)), content)


def _hint(survey: Survey) -> str:
    """Return what may be wrong with masks in which classes are missing."""
    from trickzoo.data.masks import IGNORE  # only here, because it imports NumPy and Pillow, and every training command imports this module

    absent = _listed(survey.absent)
    if len(survey.absent) == 1 and IGNORE in survey.values:
        number = list(survey.counts).index(survey.absent[0]) + survey.first
        return (
            f"{absent} never occurs, and the only other value is {IGNORE}, which is not judged: did you mean {number}? "
            "Masks hold the number of each pixel's class"
        )
    return f"{absent} never {verb(len(survey.absent), 'occurs')}, and the values in the files are {_ranges(survey.values)}"


def _nothing(survey: Survey) -> str:
    left_out = {"objects": "crowd or difficult", "pixels": "of a value that is not judged"}[survey.unit]
    kind = survey.unit[:-1]
    return f"every {kind} is {left_out}" if survey.left_out else f"there is no {kind}"


def _absent(what: str, survey: Survey) -> list[str]:
    """Return a line on the classes that never occur, if there are any and other classes occur."""
    n = len(survey.absent)
    if not survey.total or survey.alone or not n:
        return []
    return [f"{what}: {n:,} of {count(len(survey.counts), 'class')} never {verb(n, 'occurs')}: {_listed(survey.absent)}"]


def _odd(what: str, data: AnnotatedSet) -> list[str]:
    """Return a line for each property of a set that limits what its figures mean."""
    survey, copies, lines = data.survey, _copies(data), []
    if not survey.total:
        lines.append(f"{what}: {_nothing(survey)}, so no figure can be computed")
    if survey.alone:
        lines.append(f"{what}: every judged pixel is {survey.alone}; {_hint(survey)}")
    if copies:
        same = f"{count(len(copies), 'image')} {verb(len(copies), 'is')} the same as an earlier one"
        lines.append(f"{what}: {same} ({copies[0][0]} is {copies[0][1]})")
    return lines


def _amounts(survey: Survey) -> str:
    ordered = sorted(((count, name) for name, count in survey.counts.items() if count), key=lambda each: -each[0])
    of_all = 100 / max(survey.total, 1)
    parts = [f"{name} {count:,}" if survey.unit == "objects" else f"{name} {of_all * count:.1f} %" for count, name in ordered[:SHOWN]]
    more = len(ordered) - SHOWN
    parts += [count(more, "more class")] if more > 0 else []
    left_out = {"objects": "crowd or difficult", "pixels": "not judged"}[survey.unit]
    return (
        f"{count(survey.total, survey.unit[:-1])}{': ' if parts else ''}{', '.join(parts)}"
        + (f"; {survey.left_out:,} {left_out}" if survey.left_out else "")
        + (f"; mask values {_ranges(survey.values)}" if survey.values else "")
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _ranges(values: Mapping[int, int]) -> str:
    """Return the values as text, with runs of consecutive ones shortened: "0 to 2, 255"."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and runs[-1][-1] == value - 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def _copies(data: AnnotatedSet) -> list[tuple[str, str]]:
    """Return the name of each image with the content of an earlier image, and the name of the earlier one."""
    if max(Counter(data.contents).values(), default=1) == 1:
        return []
    first: dict[bytes, str] = {}
    pairs = zip(data.contents, data.names, strict=True)
    return [(name, first[digest]) for digest, name in pairs if first.setdefault(digest, name) != name]
