"""Locations of annotated images, and opening their training and validation splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from trickzoo.data.checks import Annotated, check
from trickzoo.data.layouts import find_layout, find_reader
from trickzoo.data.shapes import Shapes
from trickzoo.errors import BadData, NoEffect, nearest
from trickzoo.recipes.ranges import Checked, Count

Part = Literal["train", "val"]

SHAPE_SIZE = 96
"""Side of generated images in pixels. Several shapes must fit into one image."""
NUMBER = 1000
"""How many images are generated for training by default."""


@dataclass(frozen=True)
class AnnotatedLocation(Checked):
    """The location of annotated images.

    Attributes:
        layout: the layout of the folder, a name in `data.layouts.LAYOUTS`.
        root: the folder. It is not used for generated images.
        year, val_year: the year of COCO or VOC for training and for validation. `val_year` defaults to `year`.
        train, val: the names of the splits.
        images: how many images to generate for training, `NUMBER` by default. A fifth as many are generated for validation.

    Raises UnknownName for a layout that does not exist, BadOption for a value out of range, and NoEffect for `images` with a layout that is
    not generated or a year with a layout that has no years.
    """

    layout: str
    root: Path = Path()
    year: str | None = None
    val_year: str | None = None
    train: str = "train"
    val: str = "val"
    images: Count | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        layout = find_layout(self.layout)
        if self.images is not None and not layout.generated:
            raise NoEffect("images", "only generated shapes are made to a number")
        for name in ("year", "val_year"):
            if getattr(self, name) is not None and not layout.years:
                raise NoEffect(name, f"{self.layout} has no years")

    def shapes(self, part: Part) -> Shapes:
        """Return the generated images for training or for validation."""
        number = self.images or NUMBER
        return Shapes(part, number if part == "train" else number // 5, SHAPE_SIZE, objects="several")

    def open(self, task: str, part: Part) -> Any:
        """Open the training or the validation images with their annotations for a task.

        Raises BadOption if the layout has no annotations for the task, and BadData if the folder does not have the layout.
        """
        layout = find_layout(self.layout)
        module, _, function = find_reader(self.layout, task).function.partition(":")
        reader = getattr(import_module(module), function)
        if layout.generated:
            return reader(self.shapes(part))
        split, year = (self.train, self.year) if part == "train" else (self.val, self.val_year or self.year)
        return reader(self.root, split, year=year) if layout.years else reader(self.root, split)


T = TypeVar("T")
A = TypeVar("A", bound="AnnotatedSet")


class AnnotatedSet(Annotated, Protocol):
    """The members of every set of annotated images, with boxes or with masks."""

    @property
    def layout(self) -> str: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def digest(self) -> str: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def generated(self) -> bool: ...

    def __len__(self) -> int: ...

    def in_order(self: A, classes: Sequence[str], *, all_of_them: bool = True, known_by: str = "the model") -> A: ...


@dataclass(frozen=True)
class Splits(Generic[T]):
    """Training and validation images."""

    train: T
    val: T


def open_splits(location: AnnotatedLocation, task: str) -> Splits[Any]:
    """Open training and validation images. Both have the classes of the training images, in their order.

    Raises BadData if the classes of the two splits do not agree, if both are the same images, or if a training on them would be pointless;
    and what `AnnotatedLocation.open` raises.
    """
    train, val = location.open(task, "train"), location.open(task, "val")
    for name in val.classes:
        if name not in train.classes:
            near = nearest(name, train.classes) or "; name splits of the same classes"
            raise BadData(f'{val.root}: the validation images have a class "{name}", and the training images have none of it{near}')
    val = val.in_order(train.classes, all_of_them=False, known_by="the training split")
    if train.digest == val.digest:
        raise BadData(f"{train.root}: training and validation images are the same; name the splits")
    check(train, val)
    return Splits(train, val)
