"""Energy windows over any power source, sampled by a thread of this process: the meters `jetson_rails`, `nvml`, `energy`.

For windows that somebody else opens and closes. `power.py` is the careful way: its own process, idle, ramp, flags.
Power that the sensor averages says nothing about a window shorter than two averaging times: that reads None.
`energy` is what a program that runs on the processor should ask: the board's rails where there are some, else RAPL.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.meters.base import Meter
from edgeprune_runtime.meters.boards.jetson_rails import open_rails
from edgeprune_runtime.meters.boards.nvml import open_nvml
from edgeprune_runtime.meters.energy import EnergyMeter, EnergyReading
from edgeprune_runtime.meters.power.base import PowerSource, Tick, period_for
from edgeprune_runtime.meters.power.sources import Nothing
from edgeprune_runtime.meters.power.trace import Trace, counted, integral
from edgeprune_runtime.meters.sampler import sampled

AVERAGES = 2


class SourceWindow:
    def __init__(self, source: PowerSource, period_s: float, clock_ns: Callable[[], int]) -> None:
        self._source = source
        self._period_s = period_s
        self._clock_ns = clock_ns
        self._ticks: list[tuple[float, Tick]] = []
        self._reading: EnergyReading | None = None

    def sample(self) -> None:
        tick = self._source.read()
        self._ticks.append((self._clock_ns() / 1e9, tick))

    def close(self) -> None:
        times = tuple(t for t, _ in self._ticks)
        trace = Trace(
            source=self._source.name,
            covers=self._source.covers,
            averaging_s=self._source.averaging_s,
            period_s=self._period_s,
            t_s=times,
            power_w=tuple(tick.power_w for _, tick in self._ticks),
            energy_j=tuple(tick.energy_j for _, tick in self._ticks),
        )
        self._reading = _reading(trace, times[0], times[-1])

    def reading(self) -> EnergyReading:
        if self._reading is None:
            raise RuntimeError("the energy window is still open; leave its `with` block first")
        return self._reading


class SourceMeter:
    """A meter over the source that `opener` opens, or refuses with MeasurementError."""

    def __init__(
        self, name: str, opener: Callable[[], PowerSource], clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.name = name
        self._opener = opener
        self._clock_ns = clock_ns

    def why_unavailable(self) -> str | None:
        try:
            self._opener()
        except MeasurementError as error:
            return str(error)
        return None

    @contextmanager
    def window(self) -> Iterator[SourceWindow]:
        source: PowerSource
        try:
            source = self._opener()
        except MeasurementError as error:
            source = Nothing(str(error))
        period_s = period_for(source.averaging_s)
        window = SourceWindow(source, period_s, self._clock_ns)
        with sampled(window.sample, period_s):
            yield window
        window.close()


def rails_meter() -> SourceMeter:
    return SourceMeter("jetson_rails", open_rails)


def nvml_meter() -> SourceMeter:
    return SourceMeter("nvml", open_nvml)


def energy_meter() -> Meter[EnergyReading]:
    rails = rails_meter()
    return rails if rails.why_unavailable() is None else EnergyMeter()


def _reading(trace: Trace, start_s: float, end_s: float) -> EnergyReading:
    duration_s = end_s - start_s
    if trace.covers == "nothing":
        return EnergyReading(trace.source, None, duration_s)
    found = counted(trace, start_s, end_s)
    shortest_s = AVERAGES * (trace.averaging_s or 0.0)
    if found is None and duration_s < shortest_s:
        why = f"{trace.source} averages over {trace.averaging_s:.2g} s; measure {shortest_s:.2g} s or longer, not {duration_s:.2g} s"
        return EnergyReading(f"unknown: {why}", None, duration_s)
    found = found or integral(trace, start_s, end_s)
    if found is None:
        why = f"{trace.source} stopped answering or did not move, or this process did not let the sampling thread run"
        return EnergyReading(f"unknown: {why}", None, duration_s)
    return EnergyReading(trace.source, found.joules, duration_s)
