"""The options of `trickzoo-eval imagenet` for corrupted images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from trickzoo.data import corruption_names
from trickzoo.data.corruption_names import Corruption
from trickzoo.errors import BadOption


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Corrupting:
    """Common corruptions of the images, on which the model is evaluated too."""

    corruptions: Annotated[
        str | None,
        Parameter(
            help="Also evaluate on corrupted copies of each image: all, noise, blur, weather, digital, or names of kinds, with commas."
        ),
    ] = None
    severities: Annotated[str | None, Parameter(help="With --corruptions: the severities; by default 1,2,3,4,5.")] = None

    def parsed(self) -> tuple[Corruption, ...]:
        """Return the corruptions. Raises BadOption or UnknownName for one that does not exist."""
        if self.corruptions is None:
            if self.severities is not None:
                raise BadOption("--severities needs --corruptions, such as --corruptions all")
            return ()
        return corruption_names.parse(self.corruptions, self.severities or ",".join(map(str, corruption_names.SEVERITIES)))
