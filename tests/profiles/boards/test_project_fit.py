"""Efficiencies: by hand for few runs, and the interval holds as often as it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune_profiles.boards.fit import (
    OTHER_BOARDS,
    PRIOR,
    THIS_BOARD,
    THIS_MODEL,
    THIS_STAGE,
    WEIGHT,
    EfficiencySample,
    estimate,
    sample,
    stage_seconds,
)
from edgeprune_profiles.boards.roofline import Ideal
from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.statistics import Interval
from tests.profiles.made_boards import ideal_of

FOUND = ideal_of(1.0)


def made(
    device: str,
    efficiency: float,
    *,
    model: str = "m",
    stage: str = "prefill",
    bound: str = "compute",
    precision: str = "fp16",
) -> EfficiencySample:
    return EfficiencySample(device, model, stage, bound, precision, efficiency, "r")  # type: ignore[arg-type]


def test_an_efficiency_is_ideal_over_measured_without_the_launches() -> None:
    found = Ideal("decode", 0.2, "memory", "fp16", 0.1, 0.1)
    assert sample("b", "m", found, 0.5, "r").efficiency == pytest.approx(0.2 / 0.4)
    assert sample("b", "m", found, 0.1, "r").efficiency == pytest.approx(0.2 / 0.01), (
        "launches overlap: a tenth is left"
    )


def test_two_runs_by_hand() -> None:
    """Logs 0 and log 4: mean log 2; squares about it 2 (log 2)^2, the prior worth three runs, five minus one degrees of freedom."""
    found = estimate([made("b", 1.0), made("b", 4.0)], "b", "m", FOUND)
    variance = (2 * math.log(2) ** 2 + WEIGHT * PRIOR[THIS_MODEL] ** 2) / (2 - 1 + WEIGHT) * 1.5
    assert found.point == pytest.approx(2.0)
    assert found.high == pytest.approx(2.0 * math.exp(2.78 * math.sqrt(variance)))
    assert found.low == pytest.approx(2.0 / math.exp(2.78 * math.sqrt(variance)))
    assert (found.basis, found.n) == (THIS_MODEL, 2)


def test_the_nearest_runs_are_taken() -> None:
    runs = [
        made("b", 0.1, stage="tower"),
        made("b@5W", 0.2),
        made("other", 0.3),
        made("b", 0.4, model="another"),
        made("b", 0.5),
        made("b", 0.6, precision="int8"),
        made("b", 0.7, bound="memory", stage="decode"),
    ]
    for left, basis, point in (
        (runs, THIS_MODEL, 0.5),
        ([r for r in runs if r.model != "m" or r.efficiency != 0.5], THIS_STAGE, 0.4),
        ([r for r in runs if r.efficiency in (0.1, 0.2, 0.3)], THIS_BOARD, math.sqrt(0.1 * 0.2)),
        ([r for r in runs if r.efficiency in (0.3, 0.7)], OTHER_BOARDS, 0.3),
    ):
        found = estimate(left, "b", "m", FOUND)
        assert found.basis == basis
        assert found.point == pytest.approx(point)


def test_each_board_counts_once_however_many_runs_it_has() -> None:
    runs = [made("one", 0.1)] * 50 + [made("two", 0.4), made("two-super", 0.4)]
    found = estimate(runs, "new", "m", FOUND)
    assert (found.point, found.n) == (pytest.approx(0.2), 2)


def test_nothing_to_learn_from_is_an_error_that_says_what_to_give() -> None:
    with pytest.raises(MeasurementError, match="memory-bound.*--report"):
        estimate([made("b", 0.5)], "b", "m", ideal_of(1.0, bound="memory", stage="decode"))


def test_a_high_efficiency_is_a_low_time_and_launches_come_on_top() -> None:
    found = Ideal("x", 1.0, "compute", "fp16", 0.25, 0.5)
    efficiency = estimate([made("b", 0.5, stage="x")], "b", "m", found)
    times = stage_seconds(found, efficiency)
    assert times.point == pytest.approx(2.25)
    assert times.low == pytest.approx(1 / efficiency.high + 0.25)
    assert times.high == pytest.approx(1 / efficiency.low + 0.5)


def test_no_efficiency_takes_a_time_below_its_floor() -> None:
    """Learned from a small model that caches held (four times the bandwidth); the weights of this one no cache holds."""
    runs = [made("b", 4.0, model=name, stage="x") for name in ("m", "n")]
    free = Ideal("x", 1.0, "memory", "fp16", 0.0, 0.0)
    floored = Ideal("x", 1.0, "memory", "fp16", 0.0, 0.0, floor_s=1.0)
    for model in ("m", "new"):
        efficiency = estimate(runs, "b", model, floored)
        assert stage_seconds(free, efficiency).point == pytest.approx(0.25)
        assert stage_seconds(floored, efficiency).low == 1.0
        assert stage_seconds(floored, efficiency).point == 1.0


def test_an_assumed_overhead_is_in_the_middle_unless_this_models_own_runs_hold_it() -> None:
    found = Ideal("x", 1.0, "memory", "fp16", 0.0, 0.5, launch_likely_s=0.25, launch_least_s=0.125)
    own = stage_seconds(found, estimate([made("b", 1.0, stage="x")], "b", "m", found))
    assert own.point == pytest.approx(1.0)
    other = estimate([made("b", 1.0, stage="x", model="another")], "b", "m", found)
    assert stage_seconds(found, other).point == pytest.approx(1.25)
    assert stage_seconds(found, other).low == pytest.approx(1 / other.high + 0.125)


def test_intervals_add_end_to_end_and_hold_their_ends() -> None:
    total = Interval(1, 2, 4) + Interval(10, 20, 40)
    assert total == Interval(11, 22, 44)
    assert total.holds(11)
    assert total.holds(44)
    assert not total.holds(44.1)


@given(st.lists(st.floats(0.01, 2.0), min_size=1, max_size=12), st.floats(0.1, 10))
def test_the_middle_is_inside_and_units_do_not_matter(shares: list[float], scale: float) -> None:
    one = estimate([made("b", share) for share in shares], "b", "m", FOUND)
    other = estimate([made("b", share * scale) for share in shares], "b", "m", FOUND)
    assert one.low < one.point < one.high
    assert [other.low, other.point, other.high] == pytest.approx([one.low * scale, one.point * scale, one.high * scale])


def test_the_next_run_lies_inside_as_often_as_promised() -> None:
    """Runs with the spread that the prior expects: 95 % of the next ones are inside; the same for boards with runs of their own."""
    random = np.random.default_rng(0)
    inside = {THIS_MODEL: 0, OTHER_BOARDS: 0}
    for _ in range(400):
        own = np.exp(random.normal(-1, PRIOR[THIS_MODEL], 5))
        found = estimate([made("b", float(e)) for e in own[:4]], "b", "m", FOUND)
        inside[THIS_MODEL] += found.low <= own[4] <= found.high
        boards = random.normal(-1, PRIOR[OTHER_BOARDS], 6)
        runs = [
            made(f"b{i}", float(np.exp(random.normal(mean, 0.2))))
            for i, mean in enumerate(boards[:5])
            for _ in range(3)
        ]
        found = estimate(runs, "new", "m", FOUND)
        inside[OTHER_BOARDS] += found.low <= np.exp(random.normal(boards[5], 0.2)) <= found.high
    assert inside[THIS_MODEL] >= 0.92 * 400
    assert inside[OTHER_BOARDS] >= 0.92 * 400
