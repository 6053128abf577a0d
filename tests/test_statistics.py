"""Means over seeds, against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from trickzoo.studies import power
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


# ---------------------------------------------------------------------------------------------------------------------
# power


@pytest.mark.parametrize(("n", "effect", "alpha"), [(2, 9.0, 0.05), (3, 2.0, 0.05), (3, 4.0, 0.05), (5, 3.0, 0.05 / 6), (12, 1.2, 0.05)])
def test_power_is_the_share_of_studies_that_find_the_effect(n: int, effect: float, alpha: float) -> None:
    sd = 1.5
    studies = np.random.default_rng(0).normal(effect, sd, size=(40_000, n))
    found = np.mean(stats.ttest_1samp(studies, 0, axis=1).pvalue < alpha)
    assert power.power(effect, sd, n, alpha) == pytest.approx(found, abs=0.01)
    assert 0.1 < found < 0.99


def test_without_an_effect_power_is_the_level() -> None:
    assert [power.power(0.0, 2.0, n, 0.05) for n in (2, 3, 20)] == pytest.approx([0.05] * 3)


def test_detectable_effects_and_seeds_fit_one_another() -> None:
    for n in (2, 3, 7, 40):
        effect = power.detectable(2.5, n)
        assert power.power(effect, 2.5, n) == pytest.approx(0.8, abs=1e-4)
        assert power.seeds_for(1.001 * effect, 2.5) == n
        assert power.seeds_for(0.999 * effect, 2.5) == n + 1
    assert power.seeds_for(0.5, 1.0) == 34  # Cohen 1988 and G*Power: paired t test, d = 0.5, two-sided
    assert power.seeds_for(1e-6, 1.0) is None


def test_power_needs_two_seeds_and_a_spread() -> None:
    for sd, n in ((1.0, 1), (0.0, 3), (float("nan"), 3)):
        with pytest.raises(ValueError, match="2 seeds and a spread"):
            power.power(1.0, sd, n)
