"""What the zoo holds: models, weights and what is known of them. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from trickzoo import registry
from trickzoo.registry import Architecture
from trickzoo.weights import manifest
from trickzoo.weights.record import Record


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Names of the models that a shell pattern matches, in natural order.

    With `pretrained`, those that `create(name, pretrained=True)` has a weight for.
    """
    names = registry.match(pattern)
    if pretrained:
        defaults = {record.model for record in manifest.records().values() if record.default}
        names = [name for name in names if name in defaults]
    return names


def list_weights(pattern: str = "*", *, non_commercial: bool = True) -> list[str]:
    """Names `<model>.<tag>` of the weights that a shell pattern matches; a pattern without a dot is one of models.

    `non_commercial=False` leaves out weights whose licence is unknown or forbids commercial use.
    """
    if "." not in pattern:
        models = set(registry.match(pattern))
        found = [record for record in manifest.records().values() if record.model in models]
    else:
        found = [record for name, record in manifest.records().items() if fnmatchcase(name, pattern)]
    return [record.name for record in found if non_commercial or record.commercial]


@dataclass(frozen=True)
class Description:
    """A model, the weights it has, and the one that `pretrained=True` takes."""

    architecture: Architecture
    weights: tuple[Record, ...]
    default: Record | None


def describe(name: str) -> Description:
    """Everything the zoo knows of a model, or of one weight of it with `<model>.<tag>`. Raises UnknownName with the nearest names."""
    if "." in name:
        record = manifest.find(name)
        return Description(registry.find(record.model), (record,), record if record.default else None)
    architecture = registry.find(name)
    weights = tuple(manifest.of_model(architecture.name))
    return Description(architecture, weights, next((r for r in weights if r.default), None))
