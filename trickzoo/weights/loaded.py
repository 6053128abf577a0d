"""The description of the weights that were loaded into a network."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trickzoo import files
from trickzoo.errors import BadCheckpoint
from trickzoo.weights.record import Preprocessing, Record


@dataclass(frozen=True)
class LoadedWeights:
    """Where the weights of a network come from, and how to use them.

    Attributes:
        name: `<model>.<tag>`, the path of a file, or an `hf-hub:` reference.
        path: the path of the file.
        sha256: the SHA-256 of the file; None for a user's file, whose digest `digest()` computes.
        classes: the name of a class list ("imagenet1k"), or the names of the classes in the order of the outputs; None if the file does not
            state them, or if the network's classifier does not come from the file.
        preprocessing: how to prepare an image for the network; None if the file does not state it.
        record: the record of the manifest, if it is one of the zoo's weights.
        revision: the commit of the hub repository, if the file comes from the hub.
        not_loaded: names of the parameters and buffers of the network that were not in the file.
        training: the recipe, the random seed and what else describes the training, if the file states it.
        identity: the identity of the file that was loaded, so that `digest()` never returns the digest of another file at the same path.
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
        """Return the SHA-256 of the file. Raises BadCheckpoint if the file was changed or deleted after it had been loaded."""
        if self.sha256 is not None:
            return self.sha256
        try:
            sha256, identity = files.examine(self.path)
        except OSError as error:
            raise BadCheckpoint(f"{self.path} was loaded, but can no longer be read ({error.strerror or error}); restore it") from None
        if self.identity is not None and identity != self.identity:
            raise BadCheckpoint(f"{self.path} has changed since it was loaded; load it again")
        return sha256
