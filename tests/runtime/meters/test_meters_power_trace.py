"""Energy of known waveforms, seen through a sensor that averages, holds and is polled, lies within the stated error."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune_runtime.meters.power.trace import Trace, counted, energy, integral, watts

PERIOD_S = 0.05
Wave = Callable[[float], float]
"""Joules from 0 to t: a waveform by its energy, so that means and totals are exact."""


def constant(power_w: float) -> Wave:
    return lambda t: power_w * t


def ramp(start_w: float, slope_w_s: float) -> Wave:
    return lambda t: start_w * t + slope_w_s * t * t / 2


def square(low_w: float, high_w: float, half_s: float) -> Wave:
    """Low for half_s, then high for half_s, and again."""

    def joules(t: float) -> float:
        rounds, rest = divmod(t, 2 * half_s)
        return rounds * half_s * (low_w + high_w) + low_w * min(rest, half_s) + high_w * max(0.0, rest - half_s)

    return joules


def seen(wave: Wave, averaging_s: float, seconds: float, phase_s: float = 0.0, period_s: float = PERIOD_S) -> Trace:
    """What a monitor shows that begins a new mean every `averaging_s` and holds the last one until then."""
    times, power_w = [], []
    for number in range(int(seconds / period_s) + 1):
        t = number * period_s
        ended = int((t - phase_s) / averaging_s) * averaging_s + phase_s
        times.append(t)
        power_w.append((wave(ended) - wave(ended - averaging_s)) / averaging_s)
    return Trace("fake", "module", averaging_s, period_s, tuple(times), tuple(power_w), (None,) * len(times))


def test_a_constant_is_exact_and_its_error_is_none():
    found = integral(seen(constant(7.0), 0.43, 10.0), 2.0, 9.0)
    assert found.joules == pytest.approx(49.0)
    assert found.error_j == pytest.approx(0.0, abs=1e-9)


def test_a_ramp_seen_at_once_is_exact():
    times = tuple(number * 0.5 for number in range(11))
    trace = Trace("fake", "module", None, 0.5, times, tuple(2 + 3 * t for t in times), (None,) * 11)
    found = integral(trace, 0.75, 4.25)  # 2 * 3.5 + 3 * (4.25^2 - 0.75^2) / 2
    assert found.joules == pytest.approx(33.25)
    # rises of 1.5 W: six of 0.5 s count by half, two that are cut to 0.25 s count whole
    assert found.error_j == pytest.approx(6 * 1.5 * 0.5 / 2 + 2 * 1.5 * 0.25)


@pytest.mark.parametrize(
    ("wave", "joules"),
    [
        (ramp(2.0, 1.5), 2 * 6 + 1.5 * (64 - 4) / 2),
        (square(3.0, 9.0, 1.0), 3 * 3.0 + 3 * 9.0),
        (square(3.0, 9.0, 1.5), 1.5 * 9.0 - 0.5 * 9.0 + 3.0 * 1.5 + 9.0 * 1.5 + 3.0 * 1.5 + 0.5 * 9.0),
    ],
)
def test_known_waveforms_integrate_to_the_known_energy(wave, joules):
    assert wave(8.0) - wave(2.0) == pytest.approx(joules)
    found = integral(seen(wave, 0.43, 10.0), 2.0, 8.0)
    assert abs(found.joules - joules) <= found.error_j
    assert found.error_j < 0.35 * joules


@settings(deadline=None)
@given(
    low=st.floats(0.5, 20),
    high=st.floats(0.5, 60),
    averaging=st.floats(0.06, 1.0),
    halves=st.floats(2.5, 8.0),
    phase=st.floats(0, 1),
    start=st.floats(2.5, 4.0),
    length=st.floats(5.0, 9.0),
)
def test_a_square_wave_that_the_sensor_can_follow_lies_within_the_stated_error(
    low, high, averaging, halves, phase, start, length
):
    wave = square(low, high, halves * averaging)
    found = integral(seen(wave, averaging, 16.0, phase * averaging), start, start + length)
    assert abs(found.joules - (wave(start + length) - wave(start))) <= found.error_j + 1e-6


@settings(deadline=None)
@given(power=st.floats(0.1, 90), slope=st.floats(-5, 5), averaging=st.floats(0.06, 1.0), start=st.floats(2.5, 4))
def test_a_ramp_lies_within_the_stated_error(power, slope, averaging, start):
    wave = ramp(power + 60, slope)
    found = integral(seen(wave, averaging, 12.0), start, start + 7)
    assert abs(found.joules - (wave(start + 7) - wave(start))) <= found.error_j + 1e-6


def counter(values, times=None, power_w=None) -> Trace:
    times = times or tuple(float(number) for number in range(len(values)))
    return Trace("fake", "gpu", None, 1.0, times, power_w or (None,) * len(values), tuple(values))


def test_a_counter_is_interpolated_at_both_ends():
    found = counted(counter([0.0, 10.0, 30.0, 60.0]), 0.5, 2.5)  # 5 to 45
    assert found.joules == pytest.approx(40.0)
    assert found.error_j == pytest.approx(2 * 30.0)


def test_the_true_energy_lies_within_the_error_of_a_counter_that_steps():
    steps = [float(int(number / 3) * 30) for number in range(31)]  # 10 W, told every third second
    found = counted(counter(steps), 4.5, 21.2)
    assert abs(found.joules - 167.0) <= found.error_j


def test_a_counter_counts_on_through_readings_that_are_missing():
    assert counted(counter([0.0, 10.0, None, None, 40.0, 50.0]), 1.0, 5.0).joules == pytest.approx(40.0)


def test_a_counter_that_stands_still_is_no_measurement():
    assert counted(counter([5.0] * 6), 1.0, 4.0) is None


def test_the_counter_is_preferred_and_the_integral_steps_in():
    both = counter([0.0, 10.0, 20.0, 30.0], power_w=(12.0,) * 4)
    without = counter([0.0, None, None, None], power_w=(12.0,) * 4)
    assert energy(both, 0.0, 3.0).joules == pytest.approx(30.0)
    assert energy(without, 0.0, 3.0).joules == pytest.approx(36.0)


def test_a_piece_that_readings_do_not_reach_is_unknown():
    trace = seen(constant(5.0), 0.43, 10.0)
    assert integral(trace, 5.0, 11.0) is None
    assert integral(trace, -1.0, 4.0) is None


def test_a_short_hole_is_bridged_and_a_long_one_makes_the_integral_unknown():
    trace = seen(constant(5.0), 0.43, 20.0)
    hole = [None if 8.0 < t < 8.7 else 5.0 for t in trace.t_s]
    long = [None if 8.0 < t < 11.0 else 5.0 for t in trace.t_s]
    base = (trace.source, trace.covers, trace.averaging_s, trace.period_s, trace.t_s)
    assert integral(Trace(*base, tuple(hole), trace.energy_j), 1.0, 19.0).joules == pytest.approx(90.0)
    assert integral(Trace(*base, tuple(long), trace.energy_j), 1.0, 19.0) is None


def test_power_of_a_counter_is_its_slope():
    assert watts(counter([0.0, 10.0, 30.0]), 0.0, 2.0) == [(0.5, 10.0), (1.5, 20.0)]
