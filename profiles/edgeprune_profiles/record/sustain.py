"""Thermal soak: one budget asked without a pause for minutes, the first minute held against the last.

A board in its box is slower after ten minutes than in the first one; a figure taken cold is not what a user gets. The recording is
raw; minutes, the series for a plot and the ratio are computed from it. The ratio is of the lengths of the calls in both minutes,
each resampled by itself: there are no pairs, because the minutes are what differs. Calls of one minute resemble their neighbours,
so the interval says how sure the two minutes are, not how another soak would end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np

from edgeprune_profiles.record.power_profile import batched
from edgeprune_profiles.record.quantities import quantity
from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.meters import PowerRun, SoakInterval, SourceCandidate, first_and_last_minute, soak
from edgeprune_runtime.meters.power.flags import state_flags
from edgeprune_runtime.meters.soak import MINUTE_S, stretch
from edgeprune_runtime.statistics import Ratio, unpaired_ratio

UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
SHORTEST_S = 2 * MINUTE_S
SLICE_S = 10.0
SLICES = 60


class Soak(msgspec.Struct, frozen=True):
    """A soak of one budget: `requests_per_call` requests in each call of the recording, every answer of the report's length."""

    budget: str
    requests_per_call: int
    run: PowerRun


@dataclass(frozen=True, slots=True)
class Slice:
    """A stretch of a soak with its rate; calls that reach over its ends count by the part that lies inside."""

    requests_per_s: float
    stretch: SoakInterval


@dataclass(frozen=True, slots=True)
class SoakSummary:
    """`slowdown` is the time per request in the last minute over that in the first: above 1 it became slower."""

    budget: str
    duration_s: float
    first: Slice
    last: Slice
    slowdown: Ratio | None
    series: tuple[Slice, ...]
    flags: tuple[str, ...]


def soak_seconds(text: str) -> float:
    """90s, 10m, 1h. Raises MeasurementError for anything else, and for less than a first and a last minute."""
    seconds = quantity(text, UNITS, "--sustain")
    if seconds < SHORTEST_S:
        raise MeasurementError(
            f"--sustain is {text}, which holds no first and last minute; give at least {SHORTEST_S / 60:g}m, better 10m"
        )
    return seconds


def sustain(
    budget: str,
    work: Callable[[], object],
    chosen: SourceCandidate,
    seconds: float,
    run: Callable[[Callable[[], object], SourceCandidate, float], PowerRun] = soak,
) -> Soak:
    """Soak the device with `work`, one request at `budget`."""
    call, times = batched(work)
    return Soak(budget, times, run(call, chosen, seconds))


def soak_summary(found: Soak, seed: int) -> SoakSummary:
    run = found.run
    start_s, end_s = run.calls_s[0], run.calls_s[-1]
    first, last = first_and_last_minute(run)
    late, early = (
        [b - a for a, b in pairwise(run.calls_s) if piece.start_s < b <= piece.end_s] for piece in (last, first)
    )
    return SoakSummary(
        budget=found.budget,
        duration_s=end_s - start_s,
        first=_slice(found, first),
        last=_slice(found, last),
        slowdown=unpaired_ratio(late, early, seed=seed) if late and early else None,
        series=tuple(_slice(found, piece) for piece in _pieces(run, start_s, end_s)),
        flags=(*run.trace.flags, *state_flags(run.trace.states, start_s, end_s)),
    )


def _slice(found: Soak, piece: SoakInterval) -> Slice:
    calls_s = found.run.calls_s
    before, after = np.interp([piece.start_s, piece.end_s], calls_s, np.arange(len(calls_s)))
    return Slice(float(after - before) * found.requests_per_call / (piece.end_s - piece.start_s), piece)


def _pieces(run: PowerRun, start_s: float, end_s: float) -> Iterator[SoakInterval]:
    """The soak in at most `SLICES` equal pieces, none shorter than `SLICE_S`."""
    count = max(1, min(SLICES, int((end_s - start_s) / SLICE_S)))
    step_s = (end_s - start_s) / count
    return (stretch(run, start_s + i * step_s, start_s + (i + 1) * step_s) for i in range(count))
