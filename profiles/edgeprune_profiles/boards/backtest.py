"""How often the truth lies inside the interval: every recorded time is projected as if its board had never been seen.

Leave one device out: for each board, efficiencies are learned from all other boards only. Coverage is the share of times within
their 95 % interval, and the error is by what factor the middle of it is off. Power modes, Super mode among them, are states of the
same board and left out together. Runs of one's own are tested in the same way by `own_trials`, without a budget or without a model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from edgeprune_profiles.boards.device import board_of
from edgeprune_profiles.boards.device_file import load_device
from edgeprune_profiles.boards.fit import estimate, stage_seconds
from edgeprune_profiles.boards.published import PublishedRow, row_sample
from edgeprune_profiles.boards.roofline import ideal
from edgeprune_runtime.statistics import Interval


@dataclass(frozen=True)
class Trial:
    """One time that was projected without what is `left_out`, beside what was recorded."""

    left_out: str
    name: str
    stage: str
    bound: str
    projected_s: Interval
    measured_s: float

    @property
    def inside(self) -> bool:
        return self.projected_s.holds(self.measured_s)

    @property
    def factor(self) -> float:
        """How many times longer it took than the middle of the interval says."""
        return self.measured_s / self.projected_s.point


@dataclass(frozen=True)
class Coverage:
    """Of `n` trials. `typical_factor`: how far off the middle is, either way, as a geometric mean."""

    n: int
    inside: int
    typical_factor: float
    typical_width: float

    @property
    def share(self) -> float:
        return self.inside / self.n


def leave_one_device_out(rows: Sequence[PublishedRow]) -> tuple[Trial, ...]:
    """Each published time, projected from the other boards."""
    samples = [row_sample(row) for row in rows if row.learn]
    trials = []
    for row in rows:
        found = ideal(load_device(row.device), row.work)
        others = [s for s in samples if board_of(s.device) != board_of(row.device)]
        share = estimate(others, row.device, row.model, found)
        trials.append(
            Trial(board_of(row.device), row.model, row.stage, found.bound, stage_seconds(found, share), row.seconds)
        )
    return tuple(trials)


def coverage(trials: Sequence[Trial]) -> Coverage:
    factors = [abs(math.log(trial.factor)) for trial in trials]
    widths = [math.log(trial.projected_s.high / trial.projected_s.low) / 2 for trial in trials]
    return Coverage(len(trials), sum(t.inside for t in trials), math.exp(fmean(factors)), math.exp(fmean(widths)))
