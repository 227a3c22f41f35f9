"""Percentiles, and ratios of times, paired and unpaired."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.statistics import LEAST, Percentiles, Ratio, paired_ratio, percentiles, unpaired_ratio


def test_percentiles_interpolate_between_neighbours():
    assert percentiles(list(range(101))) == Percentiles(101, 50.0, 90.0, 95.0, 99.0)
    assert percentiles([1.0, 2.0]).p50 == 1.5


def test_percentiles_of_nothing_are_none():
    assert percentiles([]) is None


def test_a_constant_ratio_has_no_width():
    ratio = paired_ratio([2.0, 4, 6, 8, 10, 12], [1.0, 2, 3, 4, 5, 6], seed=0)
    assert (ratio.point, ratio.low, ratio.high, ratio.n) == pytest.approx((2.0, 2.0, 2.0, 6))
    assert ratio.distinguishable


def test_drift_common_to_both_sides_cancels():
    drift = np.linspace(1, 10, 12)
    ratio = paired_ratio(3 * drift, drift, seed=0)
    assert (ratio.low, ratio.high) == pytest.approx((3.0, 3.0))


def test_one_interrupted_run_does_not_decide():
    a = [2.0] * 11 + [200.0]
    assert paired_ratio(a, [1.0] * 12, seed=0).point == pytest.approx(2.0)


def test_an_interval_that_holds_one_is_not_distinguishable():
    ratio = paired_ratio([1.0, 2, 1, 2, 1, 2, 1, 2], [2.0, 1, 2, 1, 2, 1, 2, 1], seed=0)
    assert ratio.low < 1 < ratio.high
    assert not ratio.distinguishable


@pytest.mark.parametrize("n", range(1, LEAST))
def test_too_few_pairs_claim_nothing(n):
    assert not paired_ratio([5.0] * n, [1.0] * n, seed=0).distinguishable


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)), min_size=1, max_size=12))
def test_swapping_sides_inverts_the_ratio_and_its_interval(pairs):
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    there, back = paired_ratio(a, b, seed=1, resamples=400), paired_ratio(b, a, seed=1, resamples=400)
    assert there.point == pytest.approx(1 / back.point)
    assert (there.low, there.high) == pytest.approx((1 / back.high, 1 / back.low))
    assert there.low <= there.point * (1 + 1e-9)
    assert there.point <= there.high * (1 + 1e-9)


def test_the_seed_decides_and_many_samples_fit_in_memory():
    generator = np.random.default_rng(0)
    a, b = generator.lognormal(size=5000), generator.lognormal(size=5000)
    assert paired_ratio(a, b, seed=4, resamples=500) == paired_ratio(a, b, seed=4, resamples=500)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(5)
    hits = 0
    for trial in range(200):
        noise = generator.standard_normal((2, 20)) * 0.1
        ratio = paired_ratio(2 * np.exp(noise[0]), np.exp(noise[1]), seed=trial, resamples=500)
        hits += ratio.low <= 2 <= ratio.high
    assert hits >= 180


def test_an_unpaired_ratio_is_of_the_medians_of_sides_that_may_differ_in_length():
    ratio = unpaired_ratio([4.0, 6, 4, 6, 4, 6, 5], [1.0, 2, 3] * 3, seed=0)
    assert (ratio.point, ratio.n) == (pytest.approx(2.5), 7)
    assert 4 / 3 <= ratio.low < 2.5 < ratio.high <= 6
    assert ratio.distinguishable


def test_noise_that_pairs_would_cancel_is_in_an_unpaired_interval():
    drift = np.linspace(1, 10, 12)
    assert paired_ratio(1.2 * drift, drift, seed=0).distinguishable
    assert not unpaired_ratio(1.2 * drift, drift, seed=0).distinguishable


def test_both_sides_are_resampled_apart():
    equal = unpaired_ratio([1.0, 2, 3, 4, 5, 6, 7, 8], [1.0, 2, 3, 4, 5, 6, 7, 8], seed=0)
    assert equal.low < 1 < equal.high, "the same indices on both sides would give an interval without width"


def test_an_unpaired_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(6)
    hits = 0
    for trial in range(200):
        a, b = np.exp(generator.standard_normal(24) * 0.1), np.exp(generator.standard_normal(16) * 0.1)
        ratio = unpaired_ratio(2 * a, b, seed=trial, resamples=500)
        hits += ratio.low <= 2 <= ratio.high
    assert hits >= 180


@pytest.mark.parametrize(
    ("a", "b"), [([1.0], []), ([], [1.0]), ([0.0], [1.0]), ([float("inf")], [1.0]), ([1.0], [-1.0])]
)
def test_values_without_an_unpaired_ratio_are_refused(a, b):
    with pytest.raises(MeasurementError, match="ratio"):
        unpaired_ratio(a, b, seed=0)


def test_too_few_on_one_side_claim_nothing():
    assert not unpaired_ratio([5.0] * 50, [1.0] * (LEAST - 1), seed=0).distinguishable


def test_the_inverse_swaps_the_ends():
    ratio = paired_ratio([2.0, 4, 6, 8, 10, 13], [1.0, 2, 3, 4, 5, 6], seed=0)
    assert (ratio.inverse.low, ratio.inverse.high) == (1 / ratio.high, 1 / ratio.low)


@pytest.mark.parametrize(("a", "b"), [([1.0], []), ([], []), ([0.0], [1.0]), ([float("nan")], [1.0]), ([1.0], [-1.0])])
def test_values_without_a_ratio_are_refused(a, b):
    with pytest.raises(MeasurementError, match="ratio"):
        paired_ratio(a, b, seed=0)


def test_numbers_of_records_that_were_published_stay_what_they_were():
    generator = np.random.default_rng(7)
    a, b = generator.lognormal(size=(2, 11))
    c = generator.lognormal(size=9)
    assert paired_ratio(a, b, seed=3) == Ratio(0.7007130252953736, 1.6782630565017038, 2.2196093706472375, 11, False)
    assert unpaired_ratio(a, c, seed=3) == Ratio(0.5457929953313988, 0.916487444925106, 3.771942361526558, 9, False)
