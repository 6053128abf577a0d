"""Means over seeds, against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from trickzoo.studies.statistics import estimate, holm


def test_estimates_are_students() -> None:
    before, after = np.array([70.1, 71.3, 69.8, 70.9]), np.array([71.0, 71.9, 71.2, 71.1])
    found, wanted = estimate((after - before).tolist()), stats.ttest_rel(after, before)
    assert found.interval == pytest.approx(tuple(wanted.confidence_interval(0.95)))
    assert found.p == pytest.approx(wanted.pvalue)
    by_hand = estimate([1.0, 2.0, 3.0])  # s = 1, t(0.975, 2) = 4.302653
    assert (by_hand.n, by_hand.mean, by_hand.s) == (3, 2.0, 1.0)
    assert by_hand.interval == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))


def test_without_spread_there_is_no_interval() -> None:
    assert (estimate([70.0]).s, estimate([70.0]).interval, estimate([70.0]).p) == (None, None, None)
    assert (estimate([0.1 + 0.2, 0.3]).s, estimate([0.1 + 0.2, 0.3]).interval) == (0.0, None)
    with pytest.raises(ValueError, match="no values"):
        estimate([])


def test_holms_correction() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
