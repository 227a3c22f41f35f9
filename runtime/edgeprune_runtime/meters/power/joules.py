"""Joules of a power run, with the error of the method and with what makes them doubtful. All from the run's raw data.

Gross energy is all that the sensor covers while the counted calls ran. Idle-subtracted energy takes idle power, the
mean of before and after, off it for the same time: what the work added. Both are given, since which one is wanted
depends on whether the board would be on anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune_runtime.meters.power.flags import call_flags, disagreement, idle_flags, sampling_flags, state_flags
from edgeprune_runtime.meters.power.meter import PowerRun
from edgeprune_runtime.meters.power.trace import Trace, counted, energy, integral, watts


@dataclass(frozen=True, slots=True)
class Joules:
    """Energy of the `calls` that were counted, in `duration_s`. None = unknown; `source` or `flags` says why.

    gross_j      all that the sensor covers, give or take `error_j` by the method (not the sensor's calibration)
    net_j        without `idle_w` over the same time, give or take `net_error_j`
    counter_j, integral_j, disagreement   both ways to the gross energy and how far they are apart
    flags        what makes this doubtful
    """

    source: str
    covers: str
    calls: int
    duration_s: float
    gross_j: float | None
    error_j: float | None
    idle_w: float | None
    net_j: float | None
    net_error_j: float | None
    counter_j: float | None
    integral_j: float | None
    disagreement: float | None
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MeanPower:
    """Mean power, give or take `error_w` by the method."""

    w: float
    error_w: float


def counted_calls(run: PowerRun) -> tuple[float, ...]:
    """The times in `calls_s` that count: from the first call that began after the ramp."""
    return tuple(t for t in run.calls_s if t - run.calls_s[0] >= run.settle_s)


def joules(run: PowerRun) -> Joules:
    """What the run says about energy."""
    trace, times = run.trace, counted_calls(run)
    if len(times) < 2:
        unknown = (None,) * 8
        return Joules(trace.source, trace.covers, 0, 0.0, *unknown, trace.flags)
    start_s, end_s = times[0], times[-1]
    duration_s = end_s - start_s
    gross, counter, area = (ask(trace, start_s, end_s) for ask in (energy, counted, integral))
    before, after = _idle_power(trace, run.idle_before_s), _idle_power(trace, run.idle_after_s)
    idle = _mean(before, after)
    net = None if gross is None or idle is None else gross.joules - idle.w * duration_s
    return Joules(
        source=trace.source,
        covers=trace.covers,
        calls=len(times) - 1,
        duration_s=duration_s,
        gross_j=None if gross is None else gross.joules,
        error_j=None if gross is None else gross.error_j,
        idle_w=None if idle is None else idle.w,
        net_j=net,
        net_error_j=None if gross is None or idle is None else gross.error_j + idle.error_w * duration_s,
        counter_j=None if counter is None else counter.joules,
        integral_j=None if area is None else area.joules,
        disagreement=disagreement(trace, start_s, end_s),
        flags=(
            *trace.flags,
            *sampling_flags(trace, start_s, end_s),
            *state_flags(trace.states, start_s, end_s),
            *idle_flags(
                None if before is None else before.w,
                None if after is None else after.w,
                None if gross is None else gross.joules / duration_s,
            ),
            *call_flags(run.calls_s),
        ),
    )


def powers_w(run: PowerRun) -> tuple[float, ...]:
    """Readings of power while counted calls ran, for percentiles and plots."""
    times = counted_calls(run)
    return tuple(value for _, value in watts(run.trace, times[0], times[-1])) if len(times) > 1 else ()


def _idle_power(trace: Trace, piece: tuple[float, float] | None) -> MeanPower | None:
    found = None if piece is None else energy(trace, *piece)
    if found is None or piece is None:
        return None
    seconds = piece[1] - piece[0]
    return MeanPower(found.joules / seconds, found.error_j / seconds)


def _mean(before: MeanPower | None, after: MeanPower | None) -> MeanPower | None:
    if before is None or after is None:
        return None
    return MeanPower((before.w + after.w) / 2, (before.error_w + after.error_w) / 2)
