"""What makes the energy of a run doubtful, as sentences. Nothing noticed means no sentence.

From the readings: the sensor did not answer, the sampler was suspended, a counter wrapped around, counter and integral
disagree. From the board: something throttled, clocks fell. From the run: idle power was not the same before and after,
or not below the run's; one call took far longer than the others. The recorder adds its own (`power_recorder.py`).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from itertools import pairwise

from edgeprune_runtime.meters.clocks import BoardState, state_summary
from edgeprune_runtime.meters.power.trace import Trace, counted, holes, integral, known

DISAGREE_SHARE = 0.05
CLOCK_FALL_SHARE = 0.1
IDLE_SHARE = 0.1
ABOVE_IDLE_SHARE = 0.01
LONG_CALLS = 5.0
LONG_S = 1.0


def disagreement(trace: Trace, start_s: float, end_s: float) -> float | None:
    """How far counter and integral are apart, as a share of the counter; None when one is missing."""
    counter, area = counted(trace, start_s, end_s), integral(trace, start_s, end_s)
    return None if counter is None or area is None else abs(area.joules - counter.joules) / counter.joules


def sampling_flags(trace: Trace, start_s: float, end_s: float) -> Iterator[str]:
    """Readings that are missing, a counter that wrapped, and two answers that differ."""
    values = trace.energy_j if known(trace.t_s, trace.energy_j) else trace.power_w
    inside = [(t, value) for t, value in zip(trace.t_s, values, strict=True) if start_s <= t <= end_s]
    lost = [t for t, value in inside if value is None]
    if lost:
        yield f"the sensor did not answer in {len(lost)} of {len(inside)} readings, first at {lost[0]:.1f} s"
    looks = [(t, 0.0) for t in trace.t_s]
    for a, b in holes(trace, looks, start_s, end_s):
        yield f"no reading from {a:.1f} to {b:.1f} s: the sampler was suspended, starved or gone"
    if trace.wraps:
        yield f"the counter wrapped around {trace.wraps} times while recording; that was added up"
    apart = disagreement(trace, start_s, end_s)
    if apart is not None and apart > DISAGREE_SHARE:
        yield f"counter and integral of power differ by {apart:.1%}: one of the two is wrong here"


def state_flags(states: Sequence[BoardState], start_s: float, end_s: float) -> Iterator[str]:
    """Throttling, and clocks that fell from the first half of the run to the second."""
    whole = state_summary(states, start_s, end_s)
    if whole is None:
        return
    if whole.throttle:
        yield f"throttled in {whole.throttled_share:.0%} of the looks at the board: {', '.join(whole.throttle)}"
    for name, count in whole.events.items():
        yield f"throttle events during the run: {name} rose by {count}"
    middle_s = (start_s + end_s) / 2
    early, late = state_summary(states, start_s, middle_s), state_summary(states, middle_s, end_s)
    if early is None or late is None:
        return
    for name, before_hz in early.mean_hz.items():
        after_hz = late.mean_hz.get(name, before_hz)
        if after_hz < (1 - CLOCK_FALL_SHARE) * before_hz:
            yield f"the clock of {name} fell from {before_hz / 1e6:.0f} to {after_hz / 1e6:.0f} MHz during the run"


def idle_flags(before_w: float | None, after_w: float | None, run_w: float | None) -> Iterator[str]:
    if before_w is None or after_w is None:
        if run_w is not None:
            yield "idle power is unknown, so nothing was subtracted"
        return
    if abs(after_w - before_w) > IDLE_SHARE * max(before_w, after_w):
        yield f"idle power was {before_w:.2f} W before and {after_w:.2f} W after: the idle-subtracted energy is uncertain"
    if run_w is not None and run_w <= (1 + ABOVE_IDLE_SHARE) * (before_w + after_w) / 2:
        yield f"the run took {run_w:.2f} W, not more than idling: something else used power before or after it"


def call_flags(calls_s: Sequence[float]) -> Iterator[str]:
    """`calls_s` are the times at which calls began, and the end of the last."""
    lengths = [b - a for a, b in pairwise(calls_s)]
    if len(lengths) < 2:
        return
    usual, longest = statistics.median(lengths), max(lengths)
    if longest > LONG_CALLS * usual and longest - usual > LONG_S:
        yield f"one call took {longest:.1f} s, the usual one {usual:.2f} s: the process was suspended or the machine busy"
