"""Selecting the images of a set: a division into training and validation images, a list that states it, and files that cannot be read.

The command line imports this module for its options, so that what needs NumPy and Pillow is imported in the functions that use it.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

from trickzoo.data.identity import files_digest, same_set
from trickzoo.errors import BadData, BadOption, NoEffect, shortened
from trickzoo.output_files import SPLIT
from trickzoo.recipes.ranges import Checked, Range, Seed
from trickzoo.result_files import FORMULA, escape_formula
from trickzoo.wording import count, verb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trickzoo.data.imageset import ImageSet
    from trickzoo.weights.loaded import LoadedWeights

SPLIT_FRACTION = Range("above 0 and below 1", lambda number: 0 < number < 1)
"""The range of a fraction that leaves images on both sides."""
LEAVE_OUT, DIVIDE = "leave them out with --split val", "divide them as that training run did, with"
"""Remedies if images have trained a network: in an evaluation, and in a training run that starts from it. `--split-file LIST` follows."""
NAMED = 3
"""How many files a note names. The result file names all of them."""


@dataclass(frozen=True, kw_only=True)
class Selection(Checked):
    """Which images of a set are for training, which for validation, and which are left out.

    Attributes:
        val_fraction: the fraction of the images of each class that is for validation; None for a set that states its splits itself.
        split_seed: selects one of many divisions.
        group_by: a regular expression. Images are never separated if the part of their names that it matches is the same, or the parts in
            its parentheses are. With it, frames of a video or images of a patient stay on one side.
        split_file: a table of paths and splits, such as `split.csv` of a training run, that states the division.
        skip_corrupt: whether images that cannot be read are left out. Otherwise they are an error.

    Raises BadOption for a value out of range, an invalid expression or two ways to divide, and NoEffect for a seed without a fraction.
    """

    val_fraction: Annotated[float, SPLIT_FRACTION] | None = None
    split_seed: Seed = 0
    group_by: str | None = None
    split_file: Path | None = None
    skip_corrupt: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.val_fraction is not None and self.split_file is not None:
            raise BadOption("--val-fraction and --split-file both divide the images; choose one of them")
        if self.split_seed and self.val_fraction is None:
            raise NoEffect("--split-seed", "it belongs to --val-fraction, which is not given")
        if self.group_by is not None:
            try:
                re.compile(self.group_by)
            except re.error as error:
                raise BadOption(f'--group-by: "{self.group_by}" is not a regular expression: {error}') from None

    def check_grouping(self, minival: float | None = None) -> None:
        """Raise NoEffect if images are grouped that are not divided, neither for validation nor for a `minival`."""
        if self.group_by is not None and self.val_fraction is None and minival is None:
            raise NoEffect("--group-by", "it belongs to --val-fraction, which is not given")

    @property
    def divides(self) -> bool:
        """Whether the selection states which images are for training and which for validation."""
        return self.val_fraction is not None or self.split_file is not None


@dataclass(frozen=True)
class Selected:
    """How the images of a training run were selected.

    Attributes:
        facts: what the result file states about it.
        notes: lines for the user.
        rows: the path, the class and the split of each image, if the selection divided them.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    rows: tuple[tuple[str, str, str], ...] = ()

    @property
    def table(self) -> bytes:
        """The content of the list of the images, `output_files.SPLIT`."""
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([("path", "label", "split"), *map(_cells, self.rows)])
        return text.getvalue().encode("utf-8", "surrogateescape")


class Selectable(Protocol):
    """The members of a set whose images can be selected."""

    @property
    def root(self) -> Path: ...

    @property
    def names(self) -> Sequence[str]:
        """The names of the images, relative to the root."""

    @property
    def strata(self) -> Sequence[str]:
        """For each image, the class by which it is divided."""

    def content(self, index: int) -> bytes:
        """Return the bytes of an image's file. Raises BadData if it cannot be read."""

    def check_readable(self, index: int) -> None:
        """Raise BadData if an image or its mask cannot be decoded."""

    def take(self: S, indices: Sequence[int]) -> S:
        """Return the set of these images."""


S = TypeVar("S", bound=Selectable)


def select(selection: Selection, whole: Callable[[], S], part: Callable[[str], S]) -> tuple[S, S, Selected]:
    """Return training and validation images, and how they were selected.

    Args:
        selection: what is selected.
        whole: opens the images that are divided.
        part: opens the images of a split, "train" or "val", of a set that states its splits.

    Raises BadData for an image that cannot be read while the images are divided, if one side has no image, or if the list of the selection
    does not fit the images.
    """
    bad: dict[str, list[dict[str, str]]] = {}

    def usable(images: S, name: str) -> S:
        if selection.skip_corrupt:
            images, bad[name] = readable(images)
        return images

    if selection.divides:
        images = usable(whole(), "all")
        train, val, selected = divided(images, selection, {each["image"] for each in bad.get("all", ())})
    else:
        train, val = (usable(part(split), split) for split in ("train", "val"))
        selected = Selected()
    if not selection.skip_corrupt:
        return train, val, selected
    notes = (
        f"{val.root if part == 'val' else train.root}: {count(len(some), 'image')} cannot be read and {verb(len(some), 'is')} left out: "
        f"{shortened([each['image'] for each in some], NAMED)}"
        for part, some in bad.items()
        if some
    )
    return train, val, Selected({**selected.facts, "corrupt_left_out": bad}, (*selected.notes, *notes), selected.rows)


def divided(images: S, selection: Selection, left_out: Container[str] = ()) -> tuple[S, S, Selected]:
    """Return the training and the validation images of a set, as a selection that divides states it.

    `left_out` are names that the list of the selection may have although the set has not. Raises BadData as `select` does.
    """
    if selection.split_file is not None:
        train, val = (listed(images, selection.split_file, split, left_out) for split in ("train", "val"))
        return train, val, _selected(images, train, val, f"by {selection.split_file}", {"file": str(selection.split_file)})
    from trickzoo.data.division import divide, joined, near_duplicates, thumbnails
    from trickzoo.data.imageset import ImageSet

    assert selection.val_fraction is not None
    shown = [str(images.root / name) for name in images.names]
    keys, remarks, grouping = ([], [], {}) if selection.group_by is None else _grouped(images, selection.group_by)
    alone = near_duplicates(thumbnails(images.content, shown))
    groups = (joined(alone, keys) if keys else alone).tolist()
    duplicates = len(alone) - len(set(alone.tolist()))
    mask = divide(images.names, images.strata, groups, selection.val_fraction, selection.split_seed)
    if not mask.any() and not isinstance(images, ImageSet):
        # An image has several classes, which are too small, so all images are divided as one class.
        mask = divide(images.names, [""] * len(images.names), groups, selection.val_fraction, selection.split_seed)
    train, val = (images.take([index for index, is_val in enumerate(mask) if is_val == side]) for side in (False, True))
    for part, what in ((train, "training"), (val, "validation")):
        if not len(part.names):
            alike = f", {duplicates:,} of which are near duplicates of another" if duplicates else ""
            alike += f", in {count(len(set(groups)), 'group')}" if keys else ""
            small = ", because no class has three images" if max(Counter(images.strata).values()) < 3 else ""
            raise BadData(
                f"{images.root}: --val-fraction {selection.val_fraction:g} leaves no {what} image of {len(images.names):,}{alike}{small}; "
                "add images, or divide them by a list with --split-file"
            )
    facts = {"val_fraction": selection.val_fraction, "seed": selection.split_seed, "near_duplicates": duplicates, **grouping}
    how = f"by --val-fraction {selection.val_fraction:g} --split-seed {selection.split_seed}"
    if duplicates:
        remarks = [*remarks, f"{count(duplicates, 'near duplicate')} not separated from the original image"]
    return train, val, _selected(images, train, val, "; ".join([how, *remarks]), facts)


def _grouped(images: Selectable, expression: str) -> tuple[list[Any], list[str], dict[str, Any]]:
    """Return the key of each image's group, remarks for the user, and what the result file states.

    Raises BadData if no name matches the expression.
    """
    found = [re.search(expression, name) for name in images.names]
    unmatched = [name for name, match in zip(images.names, found, strict=True) if match is None]
    keys = [index if match is None else match.groups() if match.lastindex else match[0] for index, match in enumerate(found)]
    if len(unmatched) == len(found):
        raise BadData(f'{images.root}: --group-by "{expression}" matches no name of an image, such as {images.names[0]}')
    number = len(set(keys)) - len(unmatched)
    remarks = [f'{count(number, "group")} by --group-by "{expression}"']
    if unmatched:
        names = f"{count(len(unmatched), 'image')} whose name has no match, such as {unmatched[0]}"
        remarks.append(f"{names}, {verb(len(unmatched), 'is')} divided alone")
    return keys, remarks, {"group_by": expression, "groups": number}


def listed(images: S, table: Path, split: str, left_out: Container[str] = ()) -> S:
    """Return the images of a split, "train", "val" or "test", as a table of paths and splits states it.

    Images that the table does not name are left out if they cannot be read, as a training run with `skip_corrupt` left them out.

    Raises BadData if the table names an image that the set does not have and that is not among `left_out`, if the set has other images that
    the table does not name, or if the table has none of the split.
    """
    from trickzoo.data.listing import same_form, warn
    from trickzoo.data.readers.table import read_rows

    place = {same_form(name): index for index, name in enumerate(images.names)}
    named: dict[int, str] = {}
    for row in read_rows(table, labelled=False):
        name = same_form(row.path.removeprefix("./"))
        if name in left_out:
            continue
        if (index := place.get(name)) is None:
            raise BadData(f"{table}, line {row.line}: {images.root} has no image {row.path}")
        if named.setdefault(index, row.split) != row.split:
            raise BadData(f"{table}, line {row.line}: {row.path} is listed twice, as {named[index]} and as {row.split}")
    if missing := [index for index in range(len(images.names)) if index not in named]:
        if (first := next((index for index in missing if not _reason(images, index)), None)) is not None:
            shown = f"{count(len(missing), 'image')} of {images.root}, such as {images.names[first]}"
            raise BadData(f"{table} does not name {shown}; add them, or divide anew")
        names = shortened([images.names[index] for index in missing], NAMED)
        warn(f"{table} does not name {names}, which cannot be read and {verb(len(missing), 'is')} left out")
    if not (mine := [index for index in range(len(images.names)) if named.get(index) == split]):
        raise BadData(f'{table} has no image of the split "{split}", only of {", ".join(dict.fromkeys(named.values()))}')
    return images.take(mine)


def seen_in_training(names: Sequence[str], network: Path, remedy: str = LEAVE_OUT) -> str:
    """Return a sentence for the user if the `names` of images are also those of images that trained the network in a file.

    It is empty if none is, and if there is no list of a training beside the file. `remedy` is followed by the option that names this list.
    """
    from trickzoo.data.listing import same_form
    from trickzoo.data.readers.table import read_rows

    table = network.with_name(SPLIT)
    try:
        rows = read_rows(table, labelled=False) if table.is_file() else []
    except BadData:  # a file of another kind that has the name of the list
        return ""
    trained = {same_form(row.path.removeprefix("./")) for row in rows if row.split == "train"}
    n = sum(same_form(name) in trained for name in names)
    if not n:
        return ""
    return (
        f"{n:,} of {count(len(names), 'image')} {verb(n, 'has')} the {'name' if n == 1 else 'names'} of training images of {network}; "
        f"if they are the same images, {remedy} --split-file {table}"
    )


def seen_exactly(digest: str, weights: LoadedWeights, images: ImageSet | None = None) -> str:
    """Return a sentence for the user if the set with this digest trained the weights, or that of `images`; else it is empty."""
    trained_on = (weights.training or {}).get("data_digest")
    if isinstance(trained_on, str) and (same_set(digest, trained_on) or (images is not None and files_digest(images) == trained_on)):
        return "the model was trained on these very images: the figures say little about other images"
    return ""


def warn_if_seen(names: Sequence[str], weights: LoadedWeights | None, *, training: bool = False) -> bool:
    """Warn if images of these names trained the weights, so that figures on them are too high. Return whether it warned.

    They are those of an evaluation, or, with `training`, the validation images of a training run that starts from the weights.
    """
    from trickzoo.data.listing import warn

    seen = seen_in_training(names, weights.path, DIVIDE if training else LEAVE_OUT) if weights is not None else ""
    if seen:
        warn(f"validation: {seen}" if training else seen)
    return bool(seen)


def readable(images: S) -> tuple[S, list[dict[str, str]]]:
    """Return a set without the images that cannot be decoded, with the name of each of those and the reason. All images are decoded.

    Raises BadData if none can be decoded.
    """
    from trickzoo.data.contents import in_threads

    reasons = list(in_threads(lambda index: _reason(images, index), range(len(images.names))))
    bad = [{"image": name, "reason": reason} for name, reason in zip(images.names, reasons, strict=True) if reason]
    if len(bad) == len(reasons):
        raise BadData(f"{images.root}: not one of {count(len(bad), 'image')} can be read; the first: {bad[0]['reason']}")
    return (images.take([index for index, reason in enumerate(reasons) if not reason]) if bad else images), bad


def _reason(images: Selectable, index: int) -> str:
    try:
        images.check_readable(index)
    except BadData as error:
        return str(error)
    return ""


def _selected(images: Selectable, train: Selectable, val: Selectable, how: str, facts: dict[str, Any]) -> Selected:
    side = {**dict.fromkeys(train.names, "train"), **dict.fromkeys(val.names, "val")}
    rows = ((name, label, side[name]) for name, label in zip(images.names, images.strata, strict=True) if name in side)
    note = f"{images.root}: {len(train.names):,} training and {count(len(val.names), 'validation image')}, divided {how}"
    return Selected({"split": facts}, (note,), tuple(rows))


def _cells(row: Iterable[str]) -> list[str]:
    """Return the cells of a row. No spreadsheet takes them for formulas, and no reader drops blanks at the beginning of a path.

    For that, a path begins with ./ if necessary, and a class with an apostrophe.
    """
    path, label, split = row
    return [f"./{path}" if path[0].isspace() or path.lstrip("'").startswith(FORMULA) else path, escape_formula(label), split]
