"""Joules of pieces, computed by hand from a made board: 4 W idle, a constant power while it works."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeprune_profiles.record.power_profile import (
    EnergyPiece,
    PowerWindow,
    UnitEnergy,
    batched,
    doubts,
    energy_ratio,
    power_window,
    unit_energies,
    unit_energy,
)
from edgeprune_runtime.meters import PowerRun, SourceCandidate, Trace
from tests.profiles.powered import RAILS, window


def energy(gross_j: float | None, error_j: float | None = 0.0, covers: str = "module") -> UnitEnergy:
    return UnitEnergy("request", "request", 1, "made", covers, gross_j, error_j, None, None, None, None, ())


def test_joules_per_unit_are_power_times_time_over_units() -> None:
    found = unit_energy(window("decode", "token", 31, call_s=1.25, busy_w=8.0))
    # whole calls of 1.25 s for at least 5 s, after one that fills the ramp
    assert found.units == 4 * 31
    assert found.gross_j == pytest.approx(8.0 * 1.25 / 31, rel=0.01)
    assert found.net_j == pytest.approx((8.0 - 4.0) * 1.25 / 31, rel=0.01)
    assert found.idle_w == pytest.approx(4.0)
    assert found.power_w is not None
    assert found.power_w.p50 == 8.0
    assert (found.covers, found.unit) == ("module", "token")


def test_the_error_is_per_unit_as_well() -> None:
    one, many = (unit_energy(window("decode", "token", units, call_s=1.25, busy_w=8.0)) for units in (1, 31))
    assert one.error_j == pytest.approx(31 * (many.error_j or 0.0))
    assert many.error_j


def test_a_window_that_read_nothing_is_unknown_and_not_zero() -> None:
    nothing = PowerRun(Trace("unknown: no sensor", "nothing", None, 0.0))
    found = unit_energy(PowerWindow("request", "request", 1, nothing))
    assert (found.units, found.gross_j, found.net_j, found.power_w) == (0, None, None, None)
    assert found.source == "unknown: no sensor"


def test_what_went_wrong_while_reading_stands_beside_the_number() -> None:
    sound = window("request", "request", 1, call_s=0.5, busy_w=10.0)
    broken = replace(sound.run, trace=replace(sound.run.trace, flags=("the sampler ended early",)))
    energies = unit_energies([PowerWindow("request", "request", 1, broken)])
    assert energies["request"].flags == ("the sampler ended early",)
    assert doubts({"0.2": energies, "1.0": energies}) == {"the sampler ended early": ["0.2 request", "1.0 request"]}


def test_short_work_is_repeated_within_a_call_and_long_work_is_not() -> None:
    done: list[int] = []
    ticks = iter([0.0, 0.02, 0.0, 2.0])
    call, times = batched(lambda: done.append(1), lambda: next(ticks))
    assert times == 3
    call()
    assert len(done) == 1 + 3
    _, once = batched(lambda: done.append(1), lambda: next(ticks))
    assert once == 1


def test_units_of_repeated_work_are_counted() -> None:
    asked: list[SourceCandidate] = []

    def recorded(work: object, chosen: SourceCandidate) -> PowerRun:
        asked.append(chosen)
        return PowerRun(Trace("made", "module", None, 0.05))

    found = power_window(EnergyPiece("decode", "token", 15, lambda: None), RAILS, recorded)
    assert asked == [RAILS]
    assert found.units_per_call % 15 == 0
    assert found.units_per_call > 15


def test_the_range_of_a_ratio_is_what_both_errors_allow() -> None:
    found = energy_ratio(energy(10.0, 1.0), energy(5.0, 0.5))
    assert found is not None
    assert (found.point, found.low, found.high) == pytest.approx((2.0, 9 / 5.5, 11 / 4.5))
    assert found.distinguishable
    near = energy_ratio(energy(5.2, 0.2), energy(5.0, 0.1))
    assert near is not None
    assert not near.distinguishable


def test_an_error_as_large_as_the_value_leaves_the_range_open() -> None:
    found = energy_ratio(energy(9.0, 0.0), energy(1.0, 1.0))
    assert found is not None
    assert found.high == float("inf")


@pytest.mark.parametrize("other", [None, energy(None), energy(5.0, 0.1, covers="gpu")])
def test_unknown_energy_and_energy_of_something_else_have_no_ratio(other: UnitEnergy | None) -> None:
    assert energy_ratio(energy(5.0, 0.1), other) is None
    assert energy_ratio(other, energy(5.0, 0.1)) is None
