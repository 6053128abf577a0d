"""What a network knows of the weights that were loaded into it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trickzoo import files
from trickzoo.errors import BadCheckpoint
from trickzoo.weights.record import Preprocessing, Record


@dataclass(frozen=True)
class LoadedWeights:
    """What a model's weights are.

    Attributes:
        name: `<model>.<tag>`, the path of a file, or an `hf-hub:` reference.
        sha256: digest of the file; None for a file of the user's own, until asked for with `digest()`.
        classes: name of the class list ("imagenet1k"), or the classes themselves in order; None if the file does not say, or the model's
            classifier is not the file's.
        preprocessing: how to prepare an image for it; None if the file does not say.
        record: the manifest's record, if it is one of the zoo's weights.
        not_loaded: parameters and buffers of the model that the file did not give.
        training: the recipe, seed and what else made the weights, if the file says.
        identity: of the file that was loaded, so that `digest()` is never that of another file at the same path.
    """

    name: str
    path: Path
    sha256: str | None = None
    classes: str | tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    record: Record | None = None
    revision: str | None = None
    not_loaded: tuple[str, ...] = ()
    training: dict[str, Any] | None = None
    identity: files.Identity | None = field(default=None, repr=False, compare=False)

    def digest(self) -> str:
        """SHA-256 of the file. Raises BadCheckpoint if it is no longer the file that was loaded."""
        if self.sha256 is not None:
            return self.sha256
        try:
            sha256, identity = files.examine(self.path)
        except OSError as error:
            raise BadCheckpoint(f"{self.path} was loaded, but cannot be read any more ({error.strerror or error})") from None
        if self.identity is not None and identity != self.identity:
            raise BadCheckpoint(f"{self.path} has changed since it was loaded; load it again")
        return sha256
