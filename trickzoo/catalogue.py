"""Lists and describes the models and weights of the zoo, without importing torch."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from fnmatch import fnmatchcase

from trickzoo import registry
from trickzoo.registry import Architecture
from trickzoo.weights import manifest
from trickzoo.weights.record import Record


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Return the names of the models that match a shell pattern, in natural order (resnet50 before resnet101).

    With `pretrained`, only models that have a default weight are listed, which `create(name, pretrained=True)` loads.
    """
    names = registry.match(pattern)
    if pretrained:
        defaults = {record.model for record in manifest.records().values() if record.default}
        names = [name for name in names if name in defaults]
    return names


def list_weights(pattern: str = "*", *, non_commercial: bool = True) -> list[str]:
    """Return the names `<model>.<tag>` of the weights that match a shell pattern, in natural order.

    A pattern without a dot selects all weights of the models whose names match it. `non_commercial=False` leaves out weights whose licence
    forbids commercial use, is unknown, or is none of the common ones in `weights.record.COMMERCIAL`.
    """
    if "." not in pattern:
        models = set(registry.match(pattern))
        found = [record for record in manifest.records().values() if record.model in models]
    else:
        found = [record for name, record in manifest.records().items() if fnmatchcase(name, pattern)]
    return [record.name for record in found if non_commercial or record.commercial]


def list_networks(pattern: str = "*") -> list[str]:
    """Return the names of the detectors and segmenters that match a shell pattern, in natural order. `trickzoo.load` loads them."""
    return [name for name in manifest.networks() if fnmatchcase(name, pattern)]


@dataclass(frozen=True)
class Description:
    """A model and its weights.

    Attributes:
        architecture: the model.
        weights: the records of the weights that were asked for.
        default: the record of the weight that `pretrained=True` loads; None if there is none, or if another weight was asked for.
    """

    architecture: Architecture
    weights: tuple[Record, ...]
    default: Record | None


def describe(name: str) -> Description:
    """Return the description of a model with all its weights, or with one weight if `name` is `<model>.<tag>`.

    Raises UnknownName with the nearest names.
    """
    if "." in name:
        record = manifest.find(name)
        return Description(copy.deepcopy(registry.find(record.model)), (record,), record if record.default else None)
    architecture = copy.deepcopy(registry.find(name))  # a change of the description does not change the registry
    weights = tuple(manifest.of_model(architecture.name))
    return Description(architecture, weights, next((r for r in weights if r.default), None))
