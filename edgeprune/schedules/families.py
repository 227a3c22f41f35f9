"""Schedules on a sigmoid over the depth: two numbers, slope and floor, are searched; where its middle lies follows from the price."""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune.schedules.kept import Kept, SchedulePlace, dearest, sigmoid
from edgeprune.schedules.trials import Trials

_SLOPES = (1.5, 3.0, 6.0, 12.0, 24.0, 48.0)
_FLOORS = (0.0, 0.05, 0.15, 0.3)
_SPREADS = 2.0, 0.1  # factor between slopes and distance of floors, around the best of the grid
_HALVINGS = 5
_LEAST_FACTOR = 1e-9


def sigmoids(starts: Sequence[Kept], places: Sequence[SchedulePlace], trials: Trials) -> None:
    """Judge `starts` and a grid of both numbers, then what lies around the best of it, nearer and nearer."""
    for start in starts:
        if not trials.over and trials.new(start):
            trials.judge(start)
    best: tuple[float, float] | None = None
    lowest = float("inf")

    def tried(slope: float, floor: float) -> None:
        nonlocal best, lowest
        kept = on_sigmoid(places, slope, floor, trials)
        if trials.over or not trials.new(kept):
            return
        assert kept is not None
        if (cost := trials.judge(kept)) < lowest:
            best, lowest = (slope, floor), cost

    for slope in _SLOPES:
        for floor in _FLOORS:
            tried(slope, floor)
    factor, distance = _SPREADS
    for _ in range(_HALVINGS):
        if best is None:
            return
        slope, floor = best
        factor, distance = factor**0.5, distance / 2
        for steeper, higher in ((factor, 0.0), (1 / factor, 0.0), (1.0, distance), (1.0, -distance)):
            tried(slope * steeper, min(max(floor + higher, 0.0), 1 - _LEAST_FACTOR))


def on_sigmoid(places: Sequence[SchedulePlace], slope: float, floor: float, trials: Trials) -> Kept | None:
    """The one of this slope and floor that the price allows; None where none does."""
    reach = 40 / slope + 1  # from where it is flat on one side to where it is on the other

    def with_middle(at: float) -> Kept:
        return sigmoid(places, slope, floor, (2 * at - 1) * reach)

    return dearest(with_middle, trials.price, trials.limit)
