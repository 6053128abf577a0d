"""Where annotated images lie, and opening their two splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

from trickzoo.data.shapes import Shapes
from trickzoo.errors import BadData, BadOption, NoEffect
from trickzoo.recipes.ranges import Checked, Count

Layout = Literal["coco", "voc", "ade20k", "lists", "shapes"]
Part = Literal["train", "val"]

SHAPE_SIZE = 96
"""Side of generated images in pixels. Several shapes must fit into one image."""
NUMBER = 1000
"""How many images are generated for training if the user does not say."""


@dataclass(frozen=True)
class AnnotatedLocation(Checked):
    """Where annotated images lie.

    Attributes:
        layout: how the folder is organised; "shapes" are generated.
        root: the folder. It is not used for shapes.
        year, val_year: the year of COCO or VOC for training and for validation. `val_year` defaults to `year`.
        train, val: names of the splits.
        images: how many shapes to generate for training, `NUMBER` by default. Validation uses a fifth as many.

    Raises BadOption for a value out of range, NoEffect for `images` with a layout that generates nothing.
    """

    layout: Layout
    root: Path = Path()
    year: str | None = None
    val_year: str | None = None
    train: str = "train"
    val: str = "val"
    images: Count | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images is not None and self.layout != "shapes":
            raise NoEffect("images", "only generated shapes are made to a number")

    def split(self, part: Part) -> tuple[str, str | None]:
        """Name and year of the split that is used for training or for validation."""
        return (self.train, self.year) if part == "train" else (self.val, self.val_year or self.year)

    def shapes(self, part: Part) -> Shapes:
        """The generated images of a part."""
        number = self.images or NUMBER
        return Shapes(part, number if part == "train" else number // 5, SHAPE_SIZE, objects="several")


class AnnotatedSet(Protocol):
    """What every set of annotated images has, whatever its annotations are."""

    @property
    def root(self) -> Path: ...

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


T = TypeVar("T")
A = TypeVar("A", bound=AnnotatedSet)


@dataclass(frozen=True)
class Splits(Generic[T]):
    """Training and validation images."""

    train: T
    val: T


def open_splits(location: AnnotatedLocation, open_split: Callable[[AnnotatedLocation, Part], A]) -> Splits[A]:
    """Open training and validation images. Raises BadData if they do not belong together, and what `open_split` raises."""
    train, val = open_split(location, "train"), open_split(location, "val")
    if train.classes != val.classes:
        raise BadData("training and validation images have other classes")
    if train.digest == val.digest:
        raise BadData(f"{train.root}: training and validation images are the same; name the splits")
    return Splits(train, val)


def no_annotations(layout: Layout, task: str, layouts: dict[str, str]) -> BadOption:
    """The error for a layout without annotations for a task."""
    return BadOption(f"{layout} has no annotations for {task}; the layouts that have are {', '.join(layouts)}")
