"""Budgets and plans as the user writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.plan import budget_from_text
from edgeprune_runtime.errors import PlanError


@pytest.mark.parametrize(
    ("text", "label", "of_2880"),
    [
        ("0.2", "0.2", 576),
        (".20", "0.2", 576),
        ("2e-1", "0.2", 576),
        ("1", "1.0", 2880),
        ("1.0", "1.0", 2880),
        ("576", "576", 576),
        ("576.0", "576", 576),
        ("9999", "9999", 2880),
        ("0.0001", "0.0001", 1),
        ("0.5", "0.5", 1440),
    ],
)
def test_a_budget_is_a_ratio_or_a_count(text: str, label: str, of_2880: int) -> None:
    budget = budget_from_text(text)
    assert (budget.label, budget.keep(2880)) == (label, of_2880)
    assert budget.is_full == (label == "1.0")


@pytest.mark.parametrize("text", ["", "many", "0", "-0.2", "-5", "2.5", "nan", "inf", "1.5", "20%"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(PlanError, match=r"0\.2.*576"):
        budget_from_text(text)


@given(ratio=st.floats(1e-6, 1), candidates=st.integers(1, 10_000))
def test_a_ratio_keeps_at_least_one_and_never_more_than_there_are(ratio: float, candidates: int) -> None:
    keep = budget_from_text(repr(ratio)).keep(candidates)
    assert 1 <= keep <= candidates
    assert abs(keep - ratio * candidates) <= 1
