"""A soak in made time, on a board that gets slower when it is warm."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.meters.clocks import BoardState
from edgeprune_runtime.meters.power.sources import SourceCandidate
from edgeprune_runtime.meters.power.trace import Trace
from edgeprune_runtime.meters.soak import first_and_last_minute, soak

NOTHING = SourceCandidate("none", None, None, "no rails")
WARM_S = 180.0


class Warming:
    """4 calls a second at 12 W while it is cold, 2 calls a second at 8 W, throttled, from 180 s on."""

    averaging_s = None

    def __init__(self, sensor: bool = True) -> None:
        self.now, self._sensor = 0.0, sensor

    def now_s(self) -> float:
        return self.now

    def work(self) -> None:
        self.now += 0.25 if self.now < WARM_S else 0.5

    @contextmanager
    def record(self):
        yield self

    def trace(self) -> Trace:
        times = tuple(float(t) for t in range(int(self.now) + 2))
        states = [self._state(t) for t in times]
        power_w = tuple((12.0 if t < WARM_S else 8.0) if self._sensor else None for t in times)
        return Trace("fake", "module", None, 1.0, times, power_w, (None,) * len(times), states=tuple(states))

    def _state(self, t: float) -> BoardState:
        warm = t >= WARM_S
        throttle = ("gpu-throttle-alert",) if warm else ()
        return BoardState(t, {"gpu": 40.0 + min(t, 300.0) / 6}, {"gpu": 5e8 if warm else 1e9}, throttle, {})


def soaked(board: Warming, seconds: float = 300.0):
    return first_and_last_minute(soak(board.work, NOTHING, seconds, recorder=board.record))


def test_the_first_minute_is_held_against_the_sustained_one():
    first, last = soaked(Warming())
    assert (first.calls_per_s, last.calls_per_s) == (4.0, 2.0)
    assert (first.power_w, last.power_w) == (pytest.approx(12.0), pytest.approx(8.0))
    assert (first.board.mean_hz, last.board.mean_hz) == ({"gpu": 1e9}, {"gpu": 5e8})
    assert (first.board.throttled_share, last.board.throttled_share) == (0.0, 1.0)
    assert last.board.hottest_c == {"gpu": 90.0}


def test_without_a_power_sensor_the_rest_is_known():
    first, last = soaked(Warming(sensor=False))
    assert (first.power_w, last.power_w) == (None, None)
    assert (first.calls_per_s, last.board.throttle) == (4.0, ("gpu-throttle-alert",))


def test_a_soak_without_two_minutes_is_refused():
    with pytest.raises(MeasurementError, match="at least 120 s"):
        soaked(Warming(), 90.0)
