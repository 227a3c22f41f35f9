"""Joules that stacks of blocks take on this machine, read from the meter of its processor.

The reading is gross, of whatever the meter covers (RAPL: all processor packages; rails: the board): idle power is in it, and so is every other
busy program. A counter moves in steps, so a graph runs again and again until a window is long against one step.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edgeprune.errors import PlanError
from edgeprune_export.bundle.progress import Track
from edgeprune_runtime.meters import EnergyReading, Meter, meter

if TYPE_CHECKING:
    from edgeprune_export.pruning.prices.timed_blocks import Stack

_WINDOW_S = 2.0  # RAPL counters move every millisecond; rails of a board average over up to about a second
_TURNS = 3  # that count; one more before them brings the chip to its temperature and clocks


def sensor() -> Meter[EnergyReading]:
    """The meter `energy`. Raises PlanError with the meter's own sentence where it cannot measure."""
    found: Meter[EnergyReading] = meter("energy")
    if why := found.why_unavailable():
        raise PlanError(
            f"an energy target is measured in joules, and this machine shows none: {why}; ask for latency=0.7 instead"
        )
    return found


def joules(
    stacks: Sequence[Stack], track: Track, what: str, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Median joules of one request per stack, the stacks taking turns. Raises PlanError where joules cannot be read."""
    source = sensor()
    found: list[list[float]] = [[] for _ in stacks]
    with track(f"measuring the energy of {what}", 1 + _TURNS) as advance:
        for _ in range(1 + _TURNS):
            for number, stack in enumerate(stacks):
                found[number].append(sum(times * _of_one_run(run, source, clock) for run, times in stack))
            advance()
    return [statistics.median(one[1:]) for one in found]


def _of_one_run(run: Callable[[], None], source: Meter[EnergyReading], clock: Callable[[], float]) -> float:
    """Mean joules of a run, over a window of runs."""
    runs = 0
    with source.window() as window:
        start = clock()
        while runs == 0 or clock() - start < _WINDOW_S:
            run()
            runs += 1
    reading = window.reading()
    if reading.energy_j is None:
        raise PlanError(
            f"the energy of a graph could not be read ({reading.source}); try again, or ask for latency=0.7"
        )
    return reading.energy_j / runs
