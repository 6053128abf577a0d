"""The statistics of studies, against scipy and by hand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from trickzoo.studies import power
from trickzoo.studies.statistics import estimate, holm, rank_correlation, spearman


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


@pytest.mark.filterwarnings("error")
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


# ---------------------------------------------------------------------------------------------------------------------
# the rank correlation


def correlation(xs: NDArray[Any], ys: NDArray[Any]) -> NDArray[Any]:
    """Return Pearson's correlation along the last axis."""
    xs, ys = (values - values.mean(-1, keepdims=True) for values in (xs, ys))
    products: NDArray[Any] = (xs * ys).sum(-1) / np.sqrt((xs**2).sum(-1) * (ys**2).sum(-1))
    return products


@pytest.mark.parametrize(("n", "ties"), [(4, False), (5, False), (7, False), (7, True), (11, False)])
def test_rank_correlation_is_scipys(n: int, ties: bool) -> None:
    xs, ys = np.random.default_rng(n).standard_normal((2, n))
    if ties:
        xs = np.round(xs)
    found = rank_correlation(list(xs), list(ys))
    assert found.rho == pytest.approx(stats.spearmanr(xs, ys).statistic)
    if n <= 7:
        ranks = stats.rankdata(ys)

        def of_ranks(x: NDArray[Any], axis: int) -> Any:
            return correlation(stats.rankdata(x, axis=axis), ranks)

        test = stats.permutation_test((xs,), of_ranks, permutation_type="pairings", vectorized=True, n_resamples=np.inf)
        assert found.p == pytest.approx(test.pvalue)
    else:
        assert found.p == pytest.approx(stats.spearmanr(xs, ys).pvalue, abs=0.02)


def test_rank_correlation_by_hand() -> None:
    found = rank_correlation([1, 2, 3, 4, 5], [10, 20, 40, 30, 50])  # 1 - 6 * 2 / (5 * 24)
    assert found.rho == pytest.approx(0.9)
    assert found.p == pytest.approx(2 * 5 / 120)  # the right order, the four orders that exchange two neighbours, and the reverse of each
    assert rank_correlation([1, 2, 3, 4, 5], [50, 30, 40, 20, 10]).interval == tuple(-end for end in reversed(found.interval or ()))


@pytest.mark.parametrize(("n", "ys"), [(7, [1, 2, 4, 3, 5, 7, 6]), (5, [1, 2, 3, 4, 5]), (7, [3, 1, 2, 7, 4, 6, 5])])
def test_the_interval_ends_where_the_correlation_would_be_rejected(n: int, ys: list[int]) -> None:
    found = rank_correlation(range(n), ys)
    assert found.rho is not None and found.interval is not None
    for end, sign in zip(found.interval, (1, -1), strict=True):
        if abs(end) == 1:
            assert abs(found.rho) == pytest.approx(1)
            continue
        r = 2 * np.sin(np.pi / 6 * end)  # of normal variables with this rank correlation
        pairs = np.random.default_rng(9).multivariate_normal([0, 0], [[1, r], [r, 1]], size=(4000, n))
        ranks = stats.rankdata(pairs, axis=1)
        as_far = sign * correlation(ranks[:, :, 0], ranks[:, :, 1]) >= sign * found.rho - 1e-9
        assert np.mean(as_far) == pytest.approx(0.025, abs=0.008)


def test_interval_and_test_agree() -> None:
    for order in itertools.islice(itertools.permutations(range(5)), 0, 120, 7):
        found = rank_correlation(range(5), order)
        assert found.p is not None and found.interval is not None
        assert (found.p < 0.05) == (not found.interval[0] <= 0 <= found.interval[1])


def test_no_correlation_of_what_is_constant_and_no_interval_of_three() -> None:
    assert spearman([1, 2, 3, 4], [5, 5, 5, 5]) is None
    assert rank_correlation([1, 2, 3, 4], [5, 5, 5, 5]).interval is None
    three = rank_correlation([1, 2, 3], [1, 2, 3])
    assert (three.rho, three.interval, three.p) == (pytest.approx(1), None, None)
    with pytest.raises(ValueError, match="3 and 2 values"):
        spearman([1, 2, 3], [1, 2])
