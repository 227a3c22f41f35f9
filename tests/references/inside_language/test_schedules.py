"""G-Search and P-Sigmoid: counts never rise, all lists are prefixes of one order, the mean meets the budget."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from .rows import average_kept
from .schedules import gsearch, middle_for, prefixes, psigmoid, runs, sigmoid, stage_counts

SLOPES = st.floats(0.05, 20)
BUDGETS = st.floats(0.05, 0.95)


@given(slope=SLOPES, budget=BUDGETS, layers=st.integers(2, 40))
def test_the_sigmoid_s_mean_is_the_budget(slope: float, budget: float, layers: int) -> None:
    found = sigmoid(576, layers, slope, middle_for(576, layers, slope, budget))
    assert average_kept(576, found) == pytest.approx(budget, abs=1e-6)
    assert all(after <= before for before, after in zip(found, found[1:], strict=False))


@given(slope=SLOPES, budget=BUDGETS, seed=st.integers(0, 100))
def test_every_layer_s_rows_lie_inside_those_of_the_layer_before(slope: float, budget: float, seed: int) -> None:
    counts = psigmoid(50, 12, slope, budget)
    order = [int(row) for row in np.random.default_rng(seed).permutation(50)]
    lists = prefixes(order, counts)
    assert [len(rows) for rows in lists] == counts
    assert all(set(after) <= set(before) for before, after in zip(lists, lists[1:], strict=False))
    assert all(set(rows) == set(order[: len(rows)]) for rows in lists)
    assert abs(average_kept(50, counts) - budget) <= 0.5 / 50 + 1e-9


def test_half_of_the_rows_are_there_at_the_middle() -> None:
    assert sigmoid(100, 5, 1.0, 2.0)[2] == 50
    assert middle_for(100, 5, 1.0, 0.5) == pytest.approx(2.0)


def test_a_least_count_holds() -> None:
    assert min(psigmoid(576, 32, 2.0, 0.3, least=9)) == 9


def test_counts_that_rise_are_refused() -> None:
    with pytest.raises(ValueError, match="rise"):
        prefixes([2, 1, 0], [1, 2])


def test_gsearch_finds_the_least_count_of_every_layer() -> None:
    """A cost that is low exactly where every layer has what it needs."""
    need = [20, 20, 13, 7, 7, 1]

    def cost(counts: list[int]) -> float:
        return float(sum(max(n - count, 0) for n, count in zip(need, counts, strict=True)))

    assert gsearch(cost, 24, 6, 0.0) == need
    assert gsearch(lambda counts: 0.0, 24, 3, 0.0) == [1, 1, 1]
    assert gsearch(lambda counts: 1.0, 24, 3, 0.0) == [24, 24, 24]


@given(needs=st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_gsearch_never_rises_and_stays_inside_its_tolerance(needs: list[int]) -> None:
    def cost(counts: list[int]) -> float:
        return float(sum(max(n - count, 0) for n, count in zip(needs, counts, strict=True)))

    found = gsearch(cost, 30, len(needs), 0.0)
    assert all(after <= before for before, after in zip(found, found[1:], strict=False))
    assert cost(found) == 0
    assert found == [max(needs[layer:]) for layer in range(len(needs))]


def test_runs_of_equal_counts_are_the_stages() -> None:
    assert runs([9, 9, 5, 5, 5, 1]) == [(0, 9), (2, 5), (5, 1)]
    assert stage_counts([9, 9, 5, 5, 5, 1], [0, 2, 5]) == [9, 5, 1]
    assert stage_counts([9, 7, 5, 3], [0, 2]) == [8, 4]
