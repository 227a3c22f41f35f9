"""Greedy moves: tokens go from one place to another while the price holds, and stay where the cost falls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeprune.schedules.kept import Kept, dearest, falling
from edgeprune.schedules.trials import Trials

_STEPS = 0.3, 0.02  # of what is left at a place, first and last
_SHRINK = 0.5


def greedy(starts: Sequence[Kept], trials: Trials, seed: int) -> None:
    """Judge `starts`, go on from the cheapest. All pairs of places are tried in a drawn order; where none helps, steps get smaller."""
    for start in starts:
        if trials.over:
            return
        if trials.new(start):
            trials.judge(start)
    random, step = np.random.default_rng(seed), _STEPS[0]
    while trials.best is not None and step >= _STEPS[1]:
        places = range(len(trials.best))
        pairs = [(fewer, more) for fewer in places for more in places if fewer != more]
        before = trials.best
        for number in random.permutation(len(pairs)).tolist():
            fewer, more = pairs[number]
            while trials.new(candidate := moved(trials.best, fewer, more, step, trials)):
                if trials.over:
                    return
                assert candidate is not None
                trials.judge(candidate)
                if trials.best is not candidate:
                    break
        if trials.best is before:
            step *= _SHRINK


def moved(kept: Kept, fewer: int, more: int, step: float, trials: Trials) -> Kept | None:
    """`step` of the tokens at one place leave, and as many stay at another as the price allows; None where that is none."""
    lower = list(kept)
    lower[fewer] *= 1 - step
    start = falling(lower)
    most = start[more - 1] if more else 1.0
    if start[more] >= most:
        return None

    def raised(amount: float) -> Kept:
        shares = list(start)
        shares[more] += amount * (most - shares[more])
        return falling(shares)

    return dearest(raised, trials.price, trials.limit)
