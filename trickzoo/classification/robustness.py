"""Accuracy on corrupted images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import UNSET, UnsetType

from trickzoo.classification.evaluate import SetPredictions
from trickzoo.classification.metrics import top_k_hits
from trickzoo.data.corruption_names import LEFT_OUT, Corruption


@dataclass(frozen=True, kw_only=True)
class CorruptedAccuracy:
    """Accuracy in percent on the images with one corruption. `restricted_top1` is that among the classes of the set, if others exist."""

    kind: str
    severity: int
    top1: float
    top5: float
    restricted_top1: float | UnsetType = UNSET


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """Accuracy in percent on images with common corruptions.

    Attributes:
        top1, top5, restricted_top1: the means over all corruptions.
        corruptions: the accuracy with each of them.
        left_out: the kinds of the paper that were not made for want of something, with the reason.
    """

    top1: float
    top5: float
    restricted_top1: float | UnsetType = UNSET
    corruptions: tuple[CorruptedAccuracy, ...]
    left_out: Mapping[str, str]


def robustness(predictions: SetPredictions, corruptions: Sequence[Corruption]) -> Robustness:
    """Return the accuracy on the corrupted copies that the model was run on."""
    found = tuple(_accuracy(predictions, place, corruption) for place, corruption in enumerate(corruptions))
    restricted = [each.restricted_top1 for each in found if each.restricted_top1 is not UNSET]
    return Robustness(
        top1=_mean([each.top1 for each in found]),
        top5=_mean([each.top5 for each in found]),
        restricted_top1=_mean(restricted) if restricted else UNSET,
        corruptions=found,
        left_out=LEFT_OUT,
    )


def _accuracy(predictions: SetPredictions, place: int, corruption: Corruption) -> CorruptedAccuracy:
    labels, narrow = predictions.labels, predictions.corrupted_restricted
    top1, top5 = (_percent(top_k_hits(predictions.corrupted[:, place], labels, k), len(labels)) for k in (1, 5))
    restricted = UNSET if narrow is None else _percent(top_k_hits(narrow[:, place], labels, 1), len(labels))
    return CorruptedAccuracy(kind=corruption.kind, severity=corruption.severity, top1=top1, top5=top5, restricted_top1=restricted)


def _percent(hits: int, n: int) -> float:
    return round(100 * hits / n, 4)


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)


def by_kind(found: Robustness) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return the columns and rows of a table of top-1 by kind and severity, with the means over severities, and over kinds in a last row.

    It is that among the classes of the set if the model has others too.
    """
    severities = sorted({each.severity for each in found.corruptions})
    values: dict[str, list[float]] = {}
    for each in found.corruptions:
        values.setdefault(each.kind, []).append(each.top1 if each.restricted_top1 is UNSET else each.restricted_top1)
    table = {**values, "mean": np.mean(list(values.values()), axis=0).tolist()}
    rows = [(kind.replace("_", " "), *(f"{value:.2f}" for value in row), f"{np.mean(row):.2f}") for kind, row in table.items()]
    return ["corruption", *map(str, severities), "mean"], rows
