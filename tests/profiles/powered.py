"""A report with power windows and a soak, recorded on a made board in made time: the numbers can be computed by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import msgspec

from edgeprune_profiles.record.power_profile import DECODE, IMAGE, PREFILL, REQUEST, SELECT, PowerWindow
from edgeprune_profiles.record.profile import BackendUse, EnginesRef, Report
from edgeprune_profiles.record.sustain import Soak
from edgeprune_runtime.meters import BoardState, PowerRun, SourceCandidate, Trace, measure, soak
from tests.profiles.conftest import full_report

RAILS = SourceCandidate("jetson_rails", "ina3221:VDD_IN", "module", None)
IDLE_W = 4.0


class Board:
    """4 W idle and `busy_w` while `work` runs, read every 50 ms.

    After `warm_s` it throttles: calls take half as long again, at 3/4 of the power.
    """

    averaging_s = None

    def __init__(self, call_s: float, busy_w: float, warm_s: float = float("inf")) -> None:
        self.now, self._call_s, self._busy_w, self._warm_s = 0.0, call_s, busy_w, warm_s
        self._busy: list[tuple[float, float]] = []

    def now_s(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def work(self) -> None:
        start = self.now
        self.now += self._call_s * (1.5 if start >= self._warm_s else 1.0)
        if self._busy and self._busy[-1][1] == start:
            self._busy[-1] = (self._busy[-1][0], self.now)
        else:
            self._busy.append((start, self.now))

    @contextmanager
    def record(self) -> Iterator[Board]:
        yield self

    def trace(self) -> Trace:
        times = tuple(number * 0.05 for number in range(int(self.now / 0.05) + 2))
        states = tuple(self._state(float(t)) for t in range(int(self.now) + 2))
        return Trace(
            "ina3221:VDD_IN",
            "module",
            None,
            0.05,
            times,
            tuple(self._watts(t) for t in times),
            (None,) * len(times),
            states=states,
        )

    def _watts(self, t: float) -> float:
        if not any(a <= t < b for a, b in self._busy):
            return IDLE_W
        return self._busy_w * (0.75 if t >= self._warm_s else 1.0)

    def _state(self, t: float) -> BoardState:
        warm = t >= self._warm_s
        degrees = {"tj-thermal": 45.0 + 40 * min(t, 400.0) / 400, "gpu-thermal": 43.0 + 38 * min(t, 400.0) / 400}
        clocks = {"cpu": 1.5e9, "gpu": 6.1e8 if warm else 9.2e8, "emc": 3.2e9}
        return BoardState(t, degrees, clocks, ("gpu-throttle-alert",) if warm else (), {})


def window(piece: str, unit: str, units: int, call_s: float, busy_w: float) -> PowerWindow:
    board = Board(call_s, busy_w)
    return PowerWindow(piece, unit, units, measure(board.work, RAILS, recorder=board.record, sleep=board.sleep))


def soaked(call_s: float = 0.5, seconds: float = 600.0, warm_s: float = 200.0, sensor: bool = True) -> Soak:
    board = Board(call_s, 12.0, warm_s)
    run: PowerRun = soak(board.work, RAILS, seconds, recorder=board.record)
    return Soak("0.2", 1, run if sensor else without_sensor(run))


def without_sensor(run: PowerRun) -> PowerRun:
    """As on a machine without any: neither watts nor degrees nor clocks."""
    trace = Trace("unknown: no power sensor for this work", "nothing", None, 0.05)
    return PowerRun(trace, run.calls_s)


def powered_report() -> Report:
    """Requests of the full report's budgets with a window for each piece, and ten minutes at 0.2."""
    report = full_report()
    results = []
    for result in report.budgets:
        share = result.budget.keep_ratio
        prefill_s = 0.1 + 4.2 * share**1.15
        windows = (
            window(REQUEST, "request", 1, 0.26 + prefill_s + 1.27, 10.0),
            window(IMAGE, "image", 1, 0.26, 9.0),
            window(SELECT, "image", 12, 0.05, 7.0),
            window(PREFILL, "request", 1, prefill_s, 12.0),
            window(DECODE, "token", 31, 1.27, 8.0),
        )
        results.append(msgspec.structs.replace(result, power=windows))
    backend = BackendUse("tensorrt", "", "gpu", EnginesRef("tensorrt-10.3-sm87-fp16", "fedcba98" * 8))
    return msgspec.structs.replace(
        report, budgets=tuple(results), power_source=RAILS.name, soak=soaked(), backend=backend,
        environment=replace(report.environment, power_mode="15W"),
    )  # fmt: skip
