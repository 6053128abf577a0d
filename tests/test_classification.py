"""Metrics against independent references."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from trickzoo.classification.metrics import expected_calibration_error, top_k_hits, wilson_interval


@given(st.integers(1, 60_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_equals_scipys(case: tuple[int, int]) -> None:
    hits, n = case
    reference = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(hits, n) == pytest.approx((reference.low, reference.high), abs=1e-9)


def test_wilson_interval_of_nothing_is_an_error() -> None:
    for hits, n in ((0, 0), (3, 2), (-1, 5)):
        with pytest.raises(ValueError, match="is not a proportion"):
            wilson_interval(hits, n)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60), st.integers(1, 20))
def test_calibration_error_equals_the_formula_bin_by_bin(pairs: list[tuple[float, bool]], bins: int) -> None:
    confidence = np.array([c for c, _ in pairs])
    correct = np.array([ok for _, ok in pairs])
    total = 0.0
    for i in range(1, bins + 1):  # equation 3 of arXiv 1706.04599, with bins ((i - 1)/M, i/M] and 0 in the first
        inside = [(c, ok) for c, ok in pairs if min(max(math.ceil(c * bins), 1), bins) == i]
        if inside:
            gap = abs(sum(ok for _, ok in inside) / len(inside) - sum(c for c, _ in inside) / len(inside))
            total += len(inside) / len(pairs) * gap
    assert expected_calibration_error(confidence, correct, bins) == pytest.approx(total, abs=1e-9)


def test_calibration_error_by_hand() -> None:
    assert expected_calibration_error(np.array([0.9, 0.9, 0.6, 0.6]), np.array([True, False, True, True]), 10) == pytest.approx(0.4)


def test_top_k_hits_counts_labels_among_the_first_k() -> None:
    top = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    labels = np.array([1, 6, 0])
    assert [top_k_hits(top, labels, k) for k in (1, 2, 3, 5)] == [1, 1, 2, 2]
