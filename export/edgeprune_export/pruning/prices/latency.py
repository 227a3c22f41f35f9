"""Seconds that stacks of blocks take on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from edgeprune_export.bundle.progress import Track
from edgeprune_export.pruning.prices.timed_blocks import Stack

_TURNS, _ENOUGH_S = (9, 99), 2.0  # least and most timed turns per stack, and how long they are to take together


def seconds(stacks: Sequence[Stack], track: Track, what: str) -> list[float]:
    """Median seconds per stack, the stacks taking turns so that a busy moment hits them all; small graphs take more turns."""
    start = time.perf_counter()
    for stack in stacks:  # the first run of a graph is not counted
        _once(stack)
    turns = round(min(max(_ENOUGH_S / (time.perf_counter() - start), _TURNS[0]), _TURNS[1]))
    found: list[list[float]] = [[] for _ in stacks]
    with track(f"timing {what}", turns) as advance:
        for _ in range(turns):
            for number, stack in enumerate(stacks):
                found[number].append(_once(stack))
            advance()
    return [statistics.median(one) for one in found]


def _once(stack: Stack) -> float:
    """One run of each graph of a stack, each counted as often as a request runs it."""
    total = 0.0
    for run, times in stack:
        start = time.perf_counter()
        run()
        total += (time.perf_counter() - start) * times
    return total
