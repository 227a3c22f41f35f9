"""Differences of scores on the same questions, whole pictures resampled."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.statistics import LEAST, PairedDifference, paired_difference


def test_point_is_the_mean_difference():
    found = paired_difference([1, 1, 0, 1], [0, 1, 1, 0], seed=0)
    assert (found.point, found.n, found.clusters) == (0.25, 4, 4)


def test_a_constant_difference_has_no_width_and_is_distinguishable():
    found = paired_difference([0.5] * 8, [0.25] * 8, seed=0)
    assert (found.low, found.high) == (0.25, 0.25)
    assert found.distinguishable


def test_equal_scores_are_not_distinguishable():
    assert not paired_difference([1.0, 0.0] * 10, [1.0, 0.0] * 10, seed=0).distinguishable


def test_questions_about_one_picture_count_as_less_evidence():
    generator = np.random.default_rng(0)
    by_picture = np.repeat(generator.choice([0.0, 1.0], 20), 10)
    pictures = [i // 10 for i in range(200)]
    alone = paired_difference(by_picture, np.full(200, 0.5), seed=0)
    together = paired_difference(by_picture, np.full(200, 0.5), seed=0, clusters=pictures)
    assert together.clusters == 20
    assert together.point == pytest.approx(alone.point)
    assert together.high - together.low > 2.5 * (alone.high - alone.low)


def test_pictures_with_more_questions_weigh_more():
    # picture x: one question, +1; picture y: three questions, 0. Resampled means: 1, 1/4 or 0
    found = paired_difference([1.0, 0, 0, 0], [0.0] * 4, seed=0, clusters=["x", "y", "y", "y"])
    assert (found.point, found.low, found.high) == (0.25, 0.0, 1.0)


@pytest.mark.parametrize("pictures", range(1, LEAST))
def test_too_few_pictures_claim_nothing(pictures):
    scores = [1.0] * (10 * pictures)
    clusters = [i % pictures for i in range(len(scores))]
    assert not paired_difference(scores, [0.0] * len(scores), seed=0, clusters=clusters).distinguishable


def test_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        found = paired_difference(generator.random(60) < 0.7, generator.random(60) < 0.5, seed=trial, resamples=500)
        hits += found.low <= 0.2 <= found.high
    assert hits >= 180


def test_the_seed_decides():
    a, b = np.random.default_rng(2).random((2, 3000))
    assert paired_difference(a, b, seed=3, resamples=900) == paired_difference(a, b, seed=3, resamples=900)


@pytest.mark.parametrize(("a", "b", "clusters"), [([1.0], [], None), ([], [], None), ([1.0], [1.0], ["x", "y"])])
def test_unequal_sides_are_refused(a, b, clusters):
    with pytest.raises(MeasurementError, match="as many values"):
        paired_difference(a, b, seed=0, clusters=clusters)


def test_numbers_of_tables_that_were_published_stay_what_they_were():
    a, b = np.random.default_rng(7).random((2, 12))
    alone = paired_difference(a, b, seed=5)
    assert (alone.low, alone.high) == (-0.21784833985759464, 0.23561864683158762)
    together = paired_difference(a, b, seed=5, clusters=[i // 2 for i in range(12)])
    ends = (-0.2300124479423058, 0.015048549409453512, 0.27839726465964887)
    assert together == PairedDifference(*ends, n=12, clusters=6, distinguishable=False)
