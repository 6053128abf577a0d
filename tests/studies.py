"""A small ladder study, for the tests of the study and of its report."""

from __future__ import annotations

from typing import Any

from trickzoo.studies import ladder

RUNGS = ("baseline", "cosine", "mixup")
FIELDS = {"size": "32", "epochs": "2", "batch_size": "8"}
MODEL = "mobilenet_v1_025"


def plan(**options: Any) -> ladder.Plan:
    """The study on own images, or one that differs from it in these options."""
    return ladder.plan("own", MODEL, **{"seeds": 2, "rungs": RUNGS, "changes": FIELDS, **options})
