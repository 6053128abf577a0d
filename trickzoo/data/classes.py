"""Class lists: what the outputs of a classifier mean, in order."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trickzoo.data.listing import no_twin, read_lines
from trickzoo.errors import BadData, BadOption, UnknownName, nearest

if TYPE_CHECKING:
    from trickzoo.backbone import Backbone

SYNSET = re.compile(r"n\d{8}")
NUMBER = re.compile(r"-?[0-9]{1,255}")

IMAGENETTE = (
    "n01440764",
    "n02102040",
    "n02979186",
    "n03000684",
    "n03028079",
    "n03394916",
    "n03417042",
    "n03425413",
    "n03445777",
    "n03888257",
)
"""The ten classes of Imagenette (fast.ai), in sorted synset order."""

NAMES = ("imagenet1k", "imagenette")


@functools.cache
def imagenet1k() -> tuple[str, ...]:
    """The 1000 synsets of ImageNet-1k in the order that every published classifier uses."""
    from timm.data import ImageNetInfo

    return tuple(ImageNetInfo().label_names())


def class_names(model: Backbone) -> tuple[str, ...]:
    """What each output of a classifier means, in words: "tench", "goldfish", …; 1000 outputs without a statement are ImageNet-1k's.

    Raises BadOption if its weights do not say, or speak of another number of classes than it has.
    """
    stated = model.weights.classes if model.weights else None
    names = class_list(stated or ("imagenet1k" if model.num_classes == 1000 else ()))
    if len(names) != model.num_classes:
        raise BadOption(f"{model.name} has {model.num_classes} outputs, and its weights name {len(names) or 'no'} classes for them")
    return tuple(describe_class(name) for name in names)


def class_list(name: str | tuple[str, ...]) -> tuple[str, ...]:
    """The classes of a named list, of a text file with one class a line, or those given.

    What stands behind a synset in its line is left out, and ImageNet-1k in words (two are called crane) is its synsets.
    Raises BadData for a file that is empty, is no text or has a class twice.
    """
    if isinstance(name, tuple):
        return name
    if name == "imagenet1k":
        return imagenet1k()
    if name == "imagenette":
        return IMAGENETTE
    path = Path(name)
    if path.is_file():
        names = synsets([word if SYNSET.fullmatch(word := line.split()[0]) else line for line in read_lines(path)])
        no_twin(names, path)
        return names
    raise UnknownName("class list", name, NAMES)


def check_names(classes: Iterable[str], root: Path) -> None:
    """Raise BadData for a class of the set at `root` whose name is no text: the bytes of a folder's name that is not UTF-8."""
    for name in classes:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise BadData(f'{root}: the class name "{name}" is not UTF-8 text; rename it, since weight files keep class names') from None


def classes_of_labels(labels: Sequence[int | str], names: tuple[str, ...] = ()) -> tuple[list[str], tuple[str, ...]]:
    """The class of each label, and all classes in their order; labels that are words are classes already, in no order of their own.

    Numbers are indices into `names`; without names they are ImageNet-1k's if all of 0 … 999 occur, and otherwise classes called by their
    number as it is written. Raises BadData for a number that no name is there for.
    """
    written = [str(label) for label in labels]
    if not all(NUMBER.fullmatch(label) for label in written):
        return written, ()
    numbers = [int(label) for label in written]
    present = sorted(set(numbers))
    if not names and present == list(range(1000)):
        names = imagenet1k()
    if not names:
        return written, tuple(sorted(set(written), key=lambda label: (int(label), label)))
    if present and not 0 <= present[0] <= present[-1] < len(names):
        wrong = present[0] if present[0] < 0 else present[-1]
        raise BadData(f"label {wrong} is none of 0 … {len(names) - 1}, the classes that have a name")
    return [names[number] for number in numbers], names


def synsets(names: Sequence[str]) -> tuple[str, ...]:
    """The classes of a list in words: ImageNet-1k's synsets where the names describe these in order, and otherwise the names."""
    if len(names) == 1000 and sum(describe_class(a) == b.partition(",")[0] for a, b in zip(imagenet1k(), names, strict=True)) > 500:
        return imagenet1k()  # most are enough: lists differ in a few words
    return tuple(names)


@functools.cache
def _descriptions() -> dict[str, str]:
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return {synset: info.label_name_to_description(synset) for synset in info.label_names()}


def describe_class(name: str) -> str:
    """A class in words: "tench" for n01440764; the name itself if it is no synset of ImageNet-1k."""
    return _descriptions().get(name, name).partition(",")[0]


def check_classes(
    root: Path, classes: Sequence[str], known: Sequence[str], *, all_of_them: bool = True, known_by: str = "the model"
) -> None:
    """Raise BadData, with the first difference, if the classes of the set at `root` are not the `known` ones.

    Args:
        root: the set's folder, for the message.
        classes: the classes of the set.
        known: the classes that the set should have, in any order.
        all_of_them: whether the set must have every one of `known`.
        known_by: what has the `known` classes, for the message.
    """
    remedy = f"; take a set with the classes of {known_by}"
    for name in classes:
        if name not in known:
            raise BadData(f'{root} has the class "{name}", which {known_by} does not have{nearest(name, known) or remedy}')
    for name in known if all_of_them else ():
        if name not in classes:
            raise BadData(f'{root} has no class "{name}", which {known_by} has{nearest(name, classes) or remedy}')
