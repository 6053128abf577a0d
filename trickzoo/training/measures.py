"""The metrics of evaluations: their names for the user, and their values in the fields of an evaluation."""

from __future__ import annotations

from typing import Any

MEASURES = {
    "top1": "top-1",
    "top5": "top-5",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "voc_ap50": "VOC AP50 all-point",
    "voc_ap50_11_point": "VOC AP50 11-point",
    "coco_ap": "COCO AP",
    "coco_ap50": "COCO AP50",
    "miou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
}
"""Names of the metrics of evaluations, as the user reads them."""


def in_words(evaluation: dict[str, Any]) -> str:
    """Return the metrics of an evaluation as text, such as "top-1 84.48 %, top-5 98.12 %"."""
    return ", ".join(f"{title} {evaluation[name]:.2f} %" for name, title in MEASURES.items() if evaluation.get(name) is not None)


def metrics(evaluation: dict[str, Any]) -> dict[str, float]:
    """Return the fields of an evaluation that are floating-point numbers."""
    return {name: value for name, value in evaluation.items() if isinstance(value, float)}
