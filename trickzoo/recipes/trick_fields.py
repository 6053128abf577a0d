"""The recipe fields that switch tricks on: each is marked with what its trick acts on, and with the function that applies it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

Scope = Literal["network", "batch"]
"""What a trick acts on."""


@dataclass(frozen=True)
class ActsOn:
    """Marks the recipe field of a trick.

    Attributes:
        scope: "network": `function(model)` changes a network in place, once, before a training run from scratch.
            "batch": `function(images, target, value)` returns changed images and targets of a micro-batch; images are (N, C, H, W)
            float, targets (N, K) probabilities. If a recipe has several such tricks, each micro-batch uses one of them.
        function: "module:function". If the recipe has a field of the same name with "_form" behind it, it is passed as `form`.
        typical: the value of the field in the trick's paper.
    """

    scope: Scope
    function: str
    typical: Any = True


@dataclass(frozen=True)
class Action:
    """A trick that a recipe switches on: the recipe's field, its value, and the function with its options."""

    field: str
    value: Any
    function: Callable[..., Any]
    options: dict[str, Any]


@functools.cache
def marked_fields(kind: type[Any]) -> dict[str, ActsOn]:
    """Return the fields of a recipe's class that are marked with `ActsOn`, in their order."""
    hints = get_type_hints(kind, include_extras=True)
    found = {name: [mark for mark in _metadata(hint) if isinstance(mark, ActsOn)] for name, hint in hints.items()}
    return {name: marked[0] for name, marked in found.items() if marked}


def actions(recipe: Any, scope: Scope) -> list[Action]:
    """Return the tricks of a recipe that are switched on and act on the network or on a batch, in the order of their fields."""
    found = []
    for name, mark in marked_fields(type(recipe)).items():  # type: ignore[arg-type]  # mypy: dataclasses that are not frozen have no hash
        value = getattr(recipe, name)
        if mark.scope != scope or not value:
            continue
        form = getattr(recipe, f"{name}_form", None)
        found.append(Action(name, value, resolve_name(mark.function), {} if form is None else {"form": form}))
    return found


def _metadata(hint: Any) -> tuple[Any, ...]:
    return get_args(hint)[1:] if get_origin(hint) is Annotated else ()
