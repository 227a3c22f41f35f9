"""A power window: how many joules some work takes, measured for long enough that the sensor can see it.

The work is repeated: first for `ramp_s`, which is thrown away (clocks rise, averages fill), then until at least
`shortest_s`, or `AVERAGES` averaging times of the sensor, are over; whole calls only. Idle power is measured before and
after, for as long as `idle_s`; after the work one ramp is thrown away again. Readings come from a process of its own.

    chosen = pick(power_sources(), device="gpu")
    run = measure(lambda: model.ask(...), chosen)
    found = joules(run)             # gross and idle-subtracted, their error, and `flags`
    found.gross_j / found.calls     # joules per call

Joules of a stage are those of repeating that stage alone. A run is raw data; joules, powers and flags are functions of
it (`power_joules.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgeprune_runtime.meters.power.recorder import record
from edgeprune_runtime.meters.power.sources import SourceCandidate
from edgeprune_runtime.meters.power.trace import Trace

AVERAGES = 10
GUARD_S = 0.25  # between idling and working, so that no reading of the work counts as idle


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each part lasts, in seconds. 5 s suit GPUs that look at their power only part of the time."""

    shortest_s: float = 5.0
    ramp_s: float = 1.0
    idle_s: float = 3.0

    def work_s(self, averaging_s: float | None) -> float:
        return max(self.shortest_s, AVERAGES * (averaging_s or 0.0))

    def settle_s(self, averaging_s: float | None) -> float:
        """Ramp to throw away: the plan's, and two averages, so that none of it is left in a reading."""
        return max(self.ramp_s, 2 * (averaging_s or 0.0))


@dataclass(frozen=True, slots=True)
class PowerRun:
    """Raw: what was read, and when what was going on. Times as in the trace. No calls: nothing was run, see `trace.source`.

    calls_s        when each call began, and when the last one ended
    settle_s       of the calls' time, thrown away
    """

    trace: Trace
    calls_s: tuple[float, ...] = ()
    settle_s: float = 0.0
    idle_before_s: tuple[float, float] | None = None
    idle_after_s: tuple[float, float] | None = None


class Recorded(Protocol):
    """A recording, as `power_recorder` makes them."""

    @property
    def averaging_s(self) -> float | None: ...

    def now_s(self) -> float: ...
    def trace(self) -> Trace: ...


def measure(
    work: Callable[[], object],
    chosen: SourceCandidate,
    plan: Plan | None = None,
    *,
    root: Path = Path("/"),
    recorder: Callable[[], AbstractContextManager[Recorded]] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> PowerRun:
    """Measure `work`. Without a source nothing is run, and the trace's source says why.

    Raises MeasurementError when the sampler does not start, and whatever `work` raises.
    """
    plan = plan or Plan()
    if chosen.kind == "none":
        return PowerRun(Trace(f"unknown: {chosen.why_not}", "nothing", None, 0.0))
    with (recorder or (lambda: record(chosen, root)))() as recording:
        settle_s, work_s = plan.settle_s(recording.averaging_s), plan.work_s(recording.averaging_s)
        before = _idle(recording, plan.idle_s, sleep)
        sleep(GUARD_S)
        calls = [recording.now_s()]
        counted_from: float | None = None
        while counted_from is None or calls[-1] - counted_from < work_s:
            if counted_from is None and calls[-1] - calls[0] >= settle_s:
                counted_from = calls[-1]
            work()
            calls.append(recording.now_s())
        sleep(settle_s)
        after = _idle(recording, plan.idle_s, sleep)
    return PowerRun(recording.trace(), tuple(calls), settle_s, before, after)


def _idle(recording: Recorded, seconds: float, sleep: Callable[[float], None]) -> tuple[float, float]:
    start_s = recording.now_s()
    sleep(seconds)
    return start_s, recording.now_s()
