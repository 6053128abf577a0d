"""Class lists: the names of a classifier's outputs, in order."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trickzoo.data.listing import check_unique, equal_groups, read_lines, same_form, warn
from trickzoo.errors import BadData, BadOption, UnknownName, nearest, shortened
from trickzoo.wording import count

if TYPE_CHECKING:
    from trickzoo.backbone import Backbone

SYNSET = re.compile(r"n\d{8}")
NUMBER = re.compile(r"-?[0-9]{1,255}")
FLOAT = re.compile(r"-?[0-9]{1,255}\.0*")
"""A whole number with a decimal point."""
MISSING = ("nan", "null", "<na>", "#n/a")
"""Spellings of a missing value in the files of other programs, in lower case."""

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
    """Return the 1000 synsets of ImageNet-1k in the order that every published classifier uses."""
    from timm.data import ImageNetInfo

    return tuple(ImageNetInfo().label_names())


def class_names(model: Backbone) -> tuple[str, ...]:
    """Return the name of each output of a classifier in words: "tench", "goldfish", ….

    A classifier with 1000 outputs whose weights name no classes is assumed to have ImageNet-1k's. Raises BadOption if the weights of any
    other classifier name no classes, or if their number is not the number of its outputs, and for anything but a backbone.
    """
    from trickzoo.backbone import Backbone, kind_in_words  # only here, because it imports torch, which takes seconds

    if not isinstance(model, Backbone):
        raise BadOption(f"class_names takes a classifier of trickzoo, not {kind_in_words(model)}")
    stated = model.weights.classes if model.weights else None
    names = class_list(stated or ("imagenet1k" if model.num_classes == 1000 else ()))
    if len(names) != model.num_classes:
        named = count(len(names), "class") if names else "no classes"
        raise BadOption(f"{model.name} has {count(model.num_classes, 'output')}, and its weights name {named} for them")
    return tuple(describe_class(name) for name in names)


def class_list(name: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the classes of a list: one of `NAMES`, the path of a text file with one class per line, or the classes themselves.

    In a text file, words after a synset are ignored, and ImageNet-1k's classes in words become its synsets, since two of them are called
    crane. Raises UnknownName for any other name, and BadData for a file that is empty, is not text or has a class twice.
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
        check_unique(names, path)
        return names
    raise UnknownName("class list", name, NAMES)


def check_names(classes: Iterable[str], root: Path) -> None:
    """Check the names of the classes of the set at `root`.

    Raises BadData for a name that is not text, as of a folder whose name is not UTF-8, and for names that differ only in how accents are
    stored. Logs a warning, once, for names that differ only in capitals, blanks or leading zeros, for names that programs write in place
    of a missing value, and for whole numbers that are written with a decimal point.
    """
    names = sorted(classes)
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise BadData(f'{root}: the class name "{name}" is not UTF-8 text; rename it, since weight files keep class names') from None
    if twins := equal_groups(names, same_form):
        raise BadData(
            f"{root}: {len(twins[0])} classes are called {same_form(twins[0][0])}, with accents stored in two ways; write them alike"
        )
    for group in equal_groups(names, lambda name: " ".join(name.casefold().split()).lstrip("0")):
        _warn(f"{root}: the classes {_quoted(group)} differ in capitals, blanks or leading zeros only; they are different classes")
    for name in names:
        if name.lower() in MISSING:
            _warn(f'{root}: "{name}" is taken for the name of a class; if it stands for a missing value, leave out the images that have it')
    if written := [name for name in names if FLOAT.fullmatch(name)]:
        _warn(f"{root}: {_quoted(written)} are taken for the names of classes; write indices without a decimal point")


def _quoted(names: Sequence[str]) -> str:
    return shortened([f'"{name}"' for name in names])


@functools.cache  # logs a sentence once, although a set is checked again when a part of it is taken
def _warn(sentence: str) -> None:
    warn(sentence)


def classes_of_labels(labels: Sequence[int | str], names: tuple[str, ...] = ()) -> tuple[list[str], tuple[str, ...]]:
    """Return the class of each label, and all classes in order.

    Labels that are words are the classes themselves, and the order is returned empty. Labels that are numbers are indices into `names`.
    Without names, they are ImageNet-1k's classes if all of 0 … 999 occur, and otherwise classes that are named by their numbers. Raises
    BadData for a number that is not an index into `names`.
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
    """Return ImageNet-1k's synsets if the names are their descriptions in order, and otherwise the names."""
    if len(names) == 1000 and sum(describe_class(a) == b.partition(",")[0] for a, b in zip(imagenet1k(), names, strict=True)) > 500:
        return imagenet1k()  # published lists differ in a few descriptions, so most of them must match
    return tuple(names)


@functools.cache
def _descriptions() -> dict[str, str]:
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return {synset: info.label_name_to_description(synset).partition(",")[0] for synset in info.label_names()}


def describe_class(name: str) -> str:
    """Return a class in words, such as "tench" for n01440764, or the name itself if it is not a synset of ImageNet-1k."""
    return _descriptions().get(name, name)


def check_classes(root: Path, classes: Sequence[str], known: Sequence[str], *, complete: bool = True, owner: str = "the model") -> None:
    """Raise BadData, with the first difference, if the classes of the set at `root` are not the `known` ones.

    Args:
        root: the set's folder, for the message.
        classes: the classes of the set.
        known: the classes that the set should have, in any order.
        complete: whether the set must have every one of `known`.
        owner: what has the `known` classes, for the message.
    """
    remedy = f"; take a set with the classes of {owner}"
    for name in classes:
        if name not in known:
            raise BadData(f'{root} has the class "{name}", which {owner} does not have{nearest(name, known) or remedy}')
    for name in known if complete else ():
        if name not in classes:
            raise BadData(f'{root} has no class "{name}", which {owner} has{nearest(name, classes) or remedy}')
