"""Statistics that several benchmarks use."""

from __future__ import annotations

import statistics


def summary(ratios: list[float]) -> dict[str, float | list[float]]:
    """Return median, quartiles and range of ratios."""
    return {
        "median": round(statistics.median(ratios), 3),
        "quartiles": [round(q, 3) for q in statistics.quantiles(ratios, n=4)[::2]],
        "range": [round(min(ratios), 3), round(max(ratios), 3)],
    }
