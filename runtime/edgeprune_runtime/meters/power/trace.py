"""What a sampler saw, as data, and the energy in a piece of it.

Two ways to joules. *Counter*: the difference of a counter of the hardware, interpolated between the two readings around
each end of the piece; it misses nothing in between. *Integral*: the trapezoid rule over readings of power.
Each comes with a bound on its own error, for the method only (not the sensor's calibration, 1 % resistors or worse):

counter    the largest step of the counter, once for each end
integral   half of every rise and fall, over the time between its two readings: exact as long as power moves one way
           between two readings; and 1.5 averaging times of the range of power, because a reading is the mean over one
           averaging time that ended up to one averaging time ago. A wave that is faster than that is seen only as its
           mean; the ends of the piece then cut it anywhere, for at most one averaging time of its amplitude more.

A piece whose readings have holes of more than a twentieth of it has no integral: unknown instead of guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from edgeprune_runtime.meters.clocks import BoardState

HOLE_S = 0.5
HOLE_PERIODS = 10
HOLES_SHARE = 0.05

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class SamplerCost:
    """What the sampling process itself took: `cpu_s` processor seconds in `wall_s` seconds."""

    cpu_s: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class Trace:
    """Readings by time. `t_s` counts from when the recording was opened, on the monotonic clock. None = no answer.

    source      what was read; "unknown: ..." with the reason when there was nothing to read
    covers      what the watts are of: "module", "board", "gpu", "cpu" or "nothing"
    energy_j    the hardware's own counter
    parts_w     further readings that are not added up, by name: rails
    states      temperatures, clocks and throttling, at a slower pace
    flags       what went wrong while sampling, as sentences
    """

    source: str
    covers: str
    averaging_s: float | None
    period_s: float
    t_s: tuple[float, ...] = ()
    power_w: tuple[float | None, ...] = ()
    energy_j: tuple[float | None, ...] = ()
    wraps: int = 0
    parts_w: dict[str, tuple[float | None, ...]] = field(default_factory=dict)
    states: tuple[BoardState, ...] = ()
    cost: SamplerCost | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EnergyEstimate:
    """Joules, give or take `error_j` by the method."""

    joules: float
    error_j: float


def known(t_s: Sequence[float], values: Sequence[float | None]) -> list[tuple[float, float]]:
    return [(t, value) for t, value in zip(t_s, values, strict=True) if value is not None]


def holes(trace: Trace, points: Points, start_s: float, end_s: float) -> list[tuple[float, float]]:
    """Stretches of the piece without a reading that are longer than sampling explains."""
    longest = max(HOLE_S, HOLE_PERIODS * trace.period_s)
    times = [start_s, *(t for t, _ in points if start_s < t < end_s), end_s]
    return [(a, b) for a, b in pairwise(times) if b - a > longest]


def integral(trace: Trace, start_s: float, end_s: float) -> EnergyEstimate | None:
    """Energy of the piece from readings of power; None when they do not cover it."""
    points = known(trace.t_s, trace.power_w)
    missing = sum(b - a for a, b in holes(trace, points, start_s, end_s))
    if not _covers(points, start_s, end_s) or missing > HOLES_SHARE * (end_s - start_s):
        return None
    joules = error_j = 0.0
    for a, low, b, high, swing_j in _pieces(points, start_s, end_s):
        joules += (low + high) / 2 * (b - a)
        error_j += swing_j
    memory_s = trace.averaging_s or 0.0
    near = [watts for t, watts in points if start_s - 2 * memory_s <= t <= end_s + 2 * memory_s]
    return EnergyEstimate(joules, error_j + 1.5 * memory_s * (max(near, default=0.0) - min(near, default=0.0)))


def counted(trace: Trace, start_s: float, end_s: float) -> EnergyEstimate | None:
    """Energy of the piece from the hardware's counter; None without one, or when it stood still."""
    points = known(trace.t_s, trace.energy_j)
    if not _covers(points, start_s, end_s):
        return None
    joules = sum(high - low for _, low, _, high, _ in _pieces(points, start_s, end_s))
    steps = [b[1] - a[1] for a, b in pairwise(points) if b[0] > start_s and a[0] < end_s]
    return EnergyEstimate(joules, 2 * max(steps)) if joules > 0 else None


def energy(trace: Trace, start_s: float, end_s: float) -> EnergyEstimate | None:
    """The counter's answer, or else the integral's."""
    return counted(trace, start_s, end_s) or integral(trace, start_s, end_s)


def watts(trace: Trace, start_s: float, end_s: float) -> list[tuple[float, float]]:
    """(time, power) within the piece: as read, or the slope of the counter where power is not read."""
    points = known(trace.t_s, trace.power_w)
    if not points:
        counts = known(trace.t_s, trace.energy_j)
        points = [((a + b) / 2, (high - low) / (b - a)) for (a, low), (b, high) in pairwise(counts) if b > a]
    return [(t, value) for t, value in points if start_s <= t <= end_s]


def _covers(points: Points, start_s: float, end_s: float) -> bool:
    return bool(points) and points[0][0] <= start_s < end_s <= points[-1][0]


def _pieces(points: Points, start_s: float, end_s: float) -> Iterator[tuple[float, float, float, float, float]]:
    """The line through the points, cut to the piece: from, value, to, value, and how far its area can be wrong there.

    Between two points anything may be that moves one way. Its area differs from the line's by at most half of the whole
    rise, over the whole time between the points, or by the whole rise over the time that is left of it.
    """
    for (t0, y0), (t1, y1) in pairwise(points):
        a, b = max(t0, start_s), min(t1, end_s)
        if a < b:
            slope = (y1 - y0) / (t1 - t0)
            swing = abs(y1 - y0) * min(b - a, (t1 - t0) / 2)
            yield a, y0 + slope * (a - t0), b, y0 + slope * (b - t0), swing
