"""Whether a budget is accurate enough, from an evaluation: its paired difference to the full budget, with the interval it has there.

A floor is a percentage on the questions that were asked, so it stands at a fixed distance from what the full budget scored on them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edgeprune_profiles.record.profile import Accuracy, AccuracyRow
from edgeprune_profiles.record.quantities import accuracy_shares
from edgeprune_runtime.budgets import asked_for
from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.statistics import LEAST, PairedDifference

NeedAnswer = Literal["yes", "no", "open", "unknown"]


@dataclass(frozen=True)
class AccuracyNeed:
    """`points` below the full budget at most (a negative share), or a `floor` (a share); exactly one is given."""

    text: str
    points: float | None = None
    floor: float | None = None

    def least_difference(self, full_score: float) -> float:
        """The lowest difference to the full budget that is still enough, as a share."""
        return self.points if self.points is not None else (self.floor or 0.0) - full_score


@dataclass(frozen=True)
class BudgetAccuracy:
    """What an evaluation says of one budget. `difference` to the full budget is None for the full budget itself."""

    metric: str
    score: float
    full_score: float
    difference: PairedDifference | None

    @property
    def lost(self) -> float:
        """Score minus that of the full budget, as a share."""
        return 0.0 if self.difference is None else self.difference.point


def accuracy_need(text: str) -> AccuracyNeed:
    """Read -3 (points below the full budget at most) or 85 (per cent at least). Raises MeasurementError."""
    points, floor = accuracy_shares(text, "--accuracy")
    return AccuracyNeed(text, points=points, floor=floor)


def accuracy_of_budget(accuracy: Accuracy, method: str, keep_ratio: float) -> BudgetAccuracy | None:
    """What was evaluated at this keep ratio with this method ("": whichever comes first); None if nothing was.

    Raises MeasurementError for an evaluation without the full budget, to which nothing can be compared.
    """
    full = _row(accuracy, "", 1.0)
    if full is None:
        raise MeasurementError(
            "the evaluation has no full budget to compare with; export with --budget 1.0 as well and evaluate again"
        )
    row = _row(accuracy, method, keep_ratio)
    if row is None:
        return None
    metric = accuracy.headline
    if row is full:
        return BudgetAccuracy(metric, full.scores[metric], full.scores[metric], None)
    found = row.differences.get(metric)
    return None if found is None else BudgetAccuracy(metric, row.scores[metric], full.scores[metric], found)


def accurate_enough(found: BudgetAccuracy | None, need: AccuracyNeed) -> NeedAnswer:
    """`yes` and `no` hold for the whole interval; `open` where it holds the limit, or where there are too few pictures to say."""
    if found is None:
        return "unknown"
    least = need.least_difference(found.full_score)
    if found.difference is None:
        return "yes" if least <= 0 else "no"
    if found.difference.clusters < LEAST:
        return "open"
    return "yes" if found.difference.low >= least else "no" if found.difference.high < least else "open"


def _row(accuracy: Accuracy, method: str, keep_ratio: float) -> AccuracyRow | None:
    whole = [row for row in accuracy.rows if asked_for(row.name).tiles is None]
    rows = [row for row in whole if math.isclose(row.keep_ratio, keep_ratio, rel_tol=1e-6)]
    return next((row for row in rows if keep_ratio == 1.0 or not method or row.method == method), None)
