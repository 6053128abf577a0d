"""Options that name networks and prepare images for them, which several commands share. Importing them does not import torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from trickzoo import catalogue
from trickzoo.cli.options import within
from trickzoo.errors import BadOption, UnknownName
from trickzoo.recipes.ranges import Count, Fraction
from trickzoo.weights.record import Interpolation


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Preprocessing of a classifier's images that replaces what the weights state."""

    size: Annotated[int | None, within(Count), Parameter(help="Side of a classifier's input in pixels, instead of the weights' own.")] = (
        None
    )
    crop: Annotated[float | None, within(Fraction), Parameter(help="Fraction of the resized image that the crop keeps.")] = None
    interpolation: Annotated[Interpolation | None, Parameter(help="Interpolation of the resizing.")] = None

    @property
    def options(self) -> dict[str, Any]:
        """The values by the names of the options; None for an option that is not given."""
        return {f"--{name}": value for name, value in asdict(self).items()}


def check_exported(model: str, decided: Mapping[str, Any], *, device: str, backend: str, precision: str = "fp32") -> None:
    """Raise BadOption if an option is given that an exported file decides.

    `decided` has the values of options by their names, None for one that is not given. The other arguments are those of the command.
    """
    for name, value in decided.items():
        if value is not None:
            raise BadOption(f"{name} is decided in {model}; leave it out, or export the network again with it")
    if device not in ("auto", "cpu"):
        raise BadOption(f"--device {device}: exported files run on the CPU; leave it out")
    if backend != "eager":
        raise BadOption(f"--backend {backend}: the format of {model} decides the engine; leave it out")
    if precision != "fp32":
        raise BadOption(f"--precision {precision}: {model} has its own precision; leave it out")


def matching(patterns: Iterable[str]) -> list[str]:
    """Return the names, with each pattern replaced by the models or weights that it matches. Raises UnknownName if it matches none."""
    names: list[str] = []
    for pattern in patterns:
        path = Path(pattern)
        if any(sign in pattern for sign in "*?[") and len(path.parts) == 1 and not path.is_file():
            matched = catalogue.list_weights(pattern) if "." in pattern else catalogue.list_models(pattern, pretrained=True)
            if not matched:
                raise UnknownName("model with a default weight", pattern, catalogue.list_models(pretrained=True))
            names += matched
        else:
            names.append(pattern)
    return list(dict.fromkeys(names))
