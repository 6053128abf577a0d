"""The fields of the recipes in words, from their dataclasses: for the help of the commands, their messages, and the documentation."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from trickzoo.errors import NoEffect, nearest
from trickzoo.recipes.ranges import Pattern, Range

SYNONYMS = {
    "aa": "trivial",
    "auto_augment": "trivial",
    "amp": "precision",
    "arch": "model",
    "architecture": "model",
    "backbone": "model",
    "base_lr": "lr",
    "batch": "batch_size",
    "bs": "batch_size",
    "color_jitter": "jitter",
    "ema_decay": "ema",
    "fp16": "precision",
    "half": "precision",
    "image_size": "size",
    "img_size": "size",
    "imgsz": "size",
    "initial_checkpoint": "pretrained",
    "input_size": "size",
    "label_smoothing": "smoothing",
    "learning_rate": "lr",
    "lr0": "lr",
    "lr_scheduler": "schedule",
    "max_epochs": "epochs",
    "model_ema": "ema",
    "model_ema_decay": "ema",
    "network": "model",
    "opt": "optimizer",
    "optim": "optimizer",
    "optimiser": "optimizer",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "random_erase": "erasing",
    "random_erasing": "erasing",
    "reprob": "erasing",
    "resolution": "size",
    "sched": "schedule",
    "scheduler": "schedule",
    "warmup": "warmup_epochs",
    "wd": "weight_decay",
}
"""Names that other programs give to fields, by which people look for them."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that suggests the field that an unknown name probably means; "" if none is similar."""
    known = list(known)
    meant = SYNONYMS.get(name.lower().replace("-", "_"))
    return f"; did you mean {meant}?" if meant in known else nearest(name, known)


@dataclass(frozen=True)
class Field:
    """A field of a recipe in words.

    Attributes:
        name: its name, which is also the name of its option.
        default: its default as it is written on the command line, "" if it has none.
        values: the values that it can have.
        meaning: what it means, with its unit.
    """

    name: str
    default: str
    values: str
    meaning: str

    @property
    def choice(self) -> str:
        """The values for a message: "sgd or adamw"."""
        first, comma, last = self.values.rpartition(", ")
        return f"{first} or {last}" if comma else last


@functools.cache
def described(kind: Hashable) -> dict[str, Field]:
    """Return the fields of a recipe's class by name, in their order. The fields of a nested dataclass are among them."""
    assert isinstance(kind, type)
    hints, meanings = get_type_hints(kind, include_extras=True), _meanings(kind)
    found: dict[str, Field] = {}
    for field in fields(kind):
        if is_dataclass(hints[field.name]):
            found |= described(hints[field.name])
            continue
        meaning = meanings.get(field.name, "")
        default = "" if field.default is MISSING else in_words(field.default)
        found[field.name] = Field(field.name, default, ", ".join(dict.fromkeys(_values(hints[field.name]))), meaning)
    return found


def in_words(value: Any) -> str:
    """Return the value of a field as it is written on the command line: "none", "true", "0.08,1"."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(in_words, value)) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _meanings(kind: type[Any]) -> dict[str, str]:
    """Return what the docstrings of a class and of its bases say about its attributes."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        _, _, attributes = (inspect.cleandoc(each.__doc__ or "")).partition("Attributes:\n")
        for entry in re.split(r"\n(?=    \S)", attributes.rstrip()):
            names, _, text = entry.strip().partition(": ")
            meaning = " ".join(text.split())
            found |= {name.strip(" `"): meaning[:1].upper() + meaning[1:] for name in names.split(",") if meaning}
    return found


def _values(hint: Any) -> Iterator[str]:
    """Yield the values of a type, in words."""
    metadata = [part for part in get_args(hint) if isinstance(part, (Range, Pattern))]
    if metadata:
        yield from (part.words for part in metadata)
    elif get_origin(hint) is Literal:
        yield from map(str, get_args(hint))
    elif get_origin(hint) is tuple:
        inner = [part for part in get_args(hint) if part is not Ellipsis]
        how_many = "numbers with commas" if Ellipsis in get_args(hint) else f"{len(inner)} numbers with a comma"
        yield f"{how_many}: {next(_values(inner[0]))}"
    elif hint in (bool, NoneType, int, float, str):
        yield {bool: "true, false", NoneType: "none", int: "a whole number", float: "a number", str: "text"}[hint]
    else:
        for part in get_args(hint):
            if isinstance(part, type) or get_args(part):
                yield from _values(part)


NEEDED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "milestones": ("--schedule step", lambda r: r.schedule == "step"),
    "power": ("--schedule poly", lambda r: r.schedule == "poly"),
    "cosine_form": ("--schedule cosine", lambda r: r.schedule == "cosine"),
    "smoothing_form": ("--smoothing", lambda r: r.smoothing > 0),
    "mixup_form": ("--mixup", lambda r: r.mixup > 0),
    "temperature": ("--teacher", lambda r: r.teacher is not None),
    "distillation_form": ("--teacher", lambda r: r.teacher is not None),
    "growth": ("--start-size", lambda r: r.start_size is not None),
    "jitter_third": ("--jitter", lambda r: r.augmentation.jitter > 0),
    "init": ("--pretrained none", lambda r: r.pretrained is None),
    "freeze": ("--pretrained", lambda r: r.pretrained is not None),
    "fpn_channels": ("--neck fpn", lambda r: r.neck == "fpn"),
    "representation_size": ("--neck fpn", lambda r: r.neck == "fpn"),
    "warmup_start": ("--warmup-steps", lambda r: r.warmup_steps > 0),
}
"""The fields that act only together with another one: the option that it takes, and whether a recipe has it."""


def check_effect(changes: Iterable[str], *recipes: Any, prefix: str = "") -> None:
    """Raise NoEffect for a field among the names `changes` that all of these recipes ignore because of another field.

    `prefix` is that of the field's option, such as "detection-".
    """
    for name in changes:
        field = name.replace("-", "_")
        if field in NEEDED and not any(map(NEEDED[field][1], recipes)):
            raise NoEffect(f"--{prefix}{field.replace('_', '-')}", f"it acts only with {NEEDED[field][0]}")
