"""Thermal soak: repeat some work for minutes and hold the first minute against the last, the sustained one.

A board that is cold runs faster than the same board in its box after ten minutes. Calls are counted by when they end.
The recording is made as for a power window (`power_recorder.py`), with or without a power sensor: clocks, temperatures
and throttling are sampled all the same, so a soak is worth doing on any board.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.meters.clocks import StateSummary, state_summary
from edgeprune_runtime.meters.power.meter import PowerRun, Recorded
from edgeprune_runtime.meters.power.recorder import record
from edgeprune_runtime.meters.power.sources import SourceCandidate
from edgeprune_runtime.meters.power.trace import energy

MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class SoakInterval:
    """One stretch of a soak. `power_w` is the mean of all that the sensor covers; None = unknown."""

    start_s: float
    end_s: float
    calls_per_s: float
    power_w: float | None
    board: StateSummary | None


def soak(
    work: Callable[[], object],
    chosen: SourceCandidate,
    seconds: float,
    *,
    root: Path = Path("/"),
    recorder: Callable[[], AbstractContextManager[Recorded]] | None = None,
) -> PowerRun:
    """Repeat `work` for `seconds`, at least two minutes, without a pause. Nothing is thrown away, idle is not measured."""
    if seconds < 2 * MINUTE_S:
        raise MeasurementError(
            f"a soak of {seconds:g} s has no first and last minute; give at least {2 * MINUTE_S:g} s, better 600 s"
        )
    with (recorder or (lambda: record(chosen, root)))() as recording:
        calls = [recording.now_s()]
        while calls[-1] - calls[0] < seconds:
            work()
            calls.append(recording.now_s())
    return PowerRun(recording.trace(), tuple(calls))


def stretch(run: PowerRun, start_s: float, end_s: float) -> SoakInterval:
    """What went on from `start_s` to `end_s`, in the trace's time."""
    ended = sum(start_s < t <= end_s for t in run.calls_s[1:])
    found = energy(run.trace, start_s, end_s)
    power_w = None if found is None else found.joules / (end_s - start_s)
    return SoakInterval(
        start_s, end_s, ended / (end_s - start_s), power_w, state_summary(run.trace.states, start_s, end_s)
    )


def first_and_last_minute(run: PowerRun) -> tuple[SoakInterval, SoakInterval]:
    start_s, end_s = run.calls_s[0], run.calls_s[-1]
    return stretch(run, start_s, start_s + MINUTE_S), stretch(run, end_s - MINUTE_S, end_s)
