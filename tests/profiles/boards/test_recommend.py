"""Recommendation: four answers, measured beside projected, a front, and what to measure next."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune_profiles.boards.device import Market, MarketPrice
from edgeprune_profiles.boards.memory_fit import MemoryFit
from edgeprune_profiles.boards.recommend import (
    BoardOption,
    Needs,
    answers,
    largest_budget,
    measured,
    pareto_front,
    recommend,
)
from edgeprune_profiles.record.profile import Report
from edgeprune_profiles.record.quantities import BYTES, DOLLARS, SECONDS, WATTS, quantity, size_px
from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.statistics import Interval
from tests.profiles.made_boards import board

FITS = MemoryFit(100, 0, 0, 0, 0, 1000)


def candidate(name: str = "a", **changes: Any) -> BoardOption:
    fields: dict[str, Any] = {
        "device": board(name),
        "budget": "0.2",
        "keep_ratio": 0.2,
        "basis": "projected",
        "confidence": "low",
        "ttft_s": Interval(0.5, 1.0, 2.0),
        "tokens_per_s": Interval(5, 10, 20),
        "energy_j": None,
        "memory": FITS,
    }
    return BoardOption(**{**fields, **changes})


def priced(name: str, price: float, **changes: Any) -> BoardOption:
    return candidate(name, device=board(name, market=Market(MarketPrice(price, "made"))), **changes)


@pytest.mark.parametrize(
    ("needs", "need", "word"),
    [
        (Needs(ttft_s=2.0), "ttft", "yes"),
        (Needs(ttft_s=1.9), "ttft", "open"),
        (Needs(ttft_s=0.4), "ttft", "no"),
        (Needs(tokens_per_s=5), "tokens/s", "yes"),
        (Needs(tokens_per_s=10), "tokens/s", "open"),
        (Needs(tokens_per_s=21), "tokens/s", "no"),
        (Needs(power_w=10), "power", "yes"),
        (Needs(power_w=9), "power", "no"),
        (Needs(price_usd=99), "price", "no"),
        (Needs(memory_bytes=99), "fits", "no"),
        (Needs(memory_bytes=100), "fits", "yes"),
    ],
)
def test_an_answer_holds_for_the_whole_interval(needs: Needs, need: str, word: str) -> None:
    assert answers(candidate(), needs)[need] == word


def test_a_missing_figure_is_unknown_never_a_yes() -> None:
    one = candidate(device=board(power_modes=(), market=Market()), tokens_per_s=None)
    found = answers(one, Needs(power_w=1000, price_usd=1e9, tokens_per_s=1))
    assert found == {"fits": "yes", "power": "unknown", "price": "unknown", "tokens/s": "unknown"}
    (choice,) = recommend([one], Needs(power_w=1000, ttft_s=9))
    assert choice.meets == "unknown"


def test_what_is_tight_or_does_not_fit_shows() -> None:
    assert answers(candidate(memory=MemoryFit(900, 0, 0, 0, 0, 1000)), Needs())["fits"] == "open"
    full = candidate(memory=MemoryFit(1100, 0, 0, 0, 0, 1000))
    assert answers(full, Needs())["fits"] == "no"
    assert pareto_front([full]) == ()


def test_a_measured_budget_replaces_its_projection_and_keeps_its_label() -> None:
    run = candidate(basis="measured", confidence="high", ttft_s=Interval(1, 1, 1))
    choices = recommend([candidate(), run, candidate(budget="1.0", keep_ratio=1.0)], Needs(ttft_s=1.5))
    assert [(c.candidate.basis, c.candidate.budget, c.meets) for c in choices] == [
        ("measured", "0.2", "yes"),
        ("projected", "1.0", "open"),
    ]


def test_the_sure_ones_come_first_then_the_cheap_ones_then_larger_budgets() -> None:
    found = recommend(
        [
            priced("dear", 900, ttft_s=Interval(0.1, 0.1, 0.1)),
            priced("cheap", 50),
            priced("sure", 200, ttft_s=Interval(0.1, 0.2, 0.3)),
            priced("sure", 200, ttft_s=Interval(0.1, 0.2, 0.3), budget="1.0", keep_ratio=1.0),
        ],
        Needs(ttft_s=1.0),
    )
    assert [(c.candidate.device.name, c.candidate.budget) for c in found] == [
        ("sure", "1.0"), ("sure", "0.2"), ("dear", "0.2"), ("cheap", "0.2"),
    ]  # fmt: skip


def test_the_front_holds_those_that_no_other_beats() -> None:
    fast = priced("fast", 900, ttft_s=Interval(0.1, 0.1, 0.1))
    cheap = priced("cheap", 50)
    beaten = priced("beaten", 950, ttft_s=Interval(0.2, 0.2, 0.2))
    unpriced = candidate("unpriced", device=board("unpriced", market=Market()), ttft_s=Interval(0.3, 0.3, 0.3))
    assert pareto_front([fast, cheap, beaten, unpriced]) == (fast, cheap)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=12))
def test_the_front_is_never_empty_and_nobody_on_it_beats_another(numbers: list[tuple[int, int, int]]) -> None:
    every = [
        priced(str(i), price, ttft_s=Interval(time, time, time), keep_ratio=kept / 4)
        for i, (time, price, kept) in enumerate(numbers)
    ]
    front = pareto_front(every)
    assert front
    for one in front:
        for other in front:
            better = (one.ttft_s.point, one.device.price_usd, -one.keep_ratio)
            worse = (other.ttft_s.point, other.device.price_usd, -other.keep_ratio)
            assert not (better != worse and all(a <= b for a, b in zip(better, worse, strict=True)))  # type: ignore[operator]


def test_a_recorded_budget_is_measured_with_its_spread(report: Report) -> None:
    result = report.budgets[-1]
    found = measured(board(), result, FITS)
    times = sorted(sample.ttft_s for sample in result.samples)
    assert (found.basis, found.confidence, found.energy_j) == ("measured", "high", None)
    assert times[0] <= found.ttft_s.low < found.ttft_s.point < found.ttft_s.high <= times[-1]


@given(st.integers(1, 500), st.integers(0, 600))
def test_the_largest_budget_that_meets_a_target_is_found(most: int, limit: int) -> None:
    found = largest_budget(lambda keep: keep <= limit, most)
    assert found == (min(limit, most) or None)


@pytest.mark.parametrize(
    ("text", "units", "value"),
    [
        ("1s", SECONDS, 1),
        ("500ms", SECONDS, 0.5),
        ("15W", WATTS, 15),
        ("8GB", BYTES, 8e9),
        ("8 GiB", BYTES, 2**33),
        ("$399", DOLLARS, 399),
    ],
)
def test_quantities_as_people_write_them(text: str, units: dict[str, float], value: float) -> None:
    assert quantity(text, units, "--x") == value


@pytest.mark.parametrize("text", ["1h", "-1s", "0s", "s", "1.2.3s", "", "nan", "1 s s"])
def test_other_quantities_are_refused_with_the_units_there_are(text: str) -> None:
    with pytest.raises(MeasurementError, match="--ttft is .*one of the units s, ms"):
        quantity(text, SECONDS, "--ttft")


def test_a_size_is_width_by_height() -> None:
    assert size_px("640x480", "--size") == (480, 640)
    with pytest.raises(MeasurementError, match="WIDTHxHEIGHT"):
        size_px("0x480", "--size")
