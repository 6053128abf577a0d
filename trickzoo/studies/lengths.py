"""The same step in ladders of different length."""

from __future__ import annotations

from collections.abc import Iterable

from trickzoo.studies import words
from trickzoo.studies.found import Difference, LadderStudy


def by_length(studies: Iterable[LadderStudy]) -> dict[tuple[str, str], dict[int, Difference]]:
    """Return the difference that a step makes, by the number of epochs of the ladder, for steps that several lengths measure.

    The keys are the title of the study, which names network and images, and that of the step. Only steps are taken that do not include
    other rungs.
    """
    found: dict[tuple[str, str], dict[int, Difference]] = {}
    for study in studies:
        for rung in study.rungs:
            if rung.difference and not rung.skipped:
                found.setdefault((study.title, words.title(rung)), {})[study.baseline["epochs"]] = rung.difference
    return {key: dict(sorted(each.items())) for key, each in found.items() if len(each) > 1}
