"""References of normalisation and steps, and what all allocators of structured pruning share, from docs/structure.md only.

Every decision is taken in exact fractions of the numbers given, so nothing here depends on the order of a sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Removal = tuple[int, list[int]]  # number of the site, units that leave together


@dataclass(frozen=True, eq=False)
class Site:
    """The units of one kind in one layer. What only `slope` reads may be left out."""

    layer: int
    kind: str
    scores: Sequence[float]
    saving: float  # of one unit
    align: int
    least: int
    terms: NDArray[np.float64] | None = None  # [samples, units] T_s
    squared: Sequence[float] = ()  # of every unit: sum of w^2 over its columns of the out matrix


@dataclass(frozen=True)
class Allocation:
    kept: dict[tuple[int, str], list[int]]
    cost: float


def head_alignment(lanes: int) -> int:
    """The smallest number of groups whose lanes (r d each) together are a multiple of 8."""
    return next(groups for groups in range(1, 9) if groups * lanes % 8 == 0)


def channel_least(channels: int, align: int) -> int:
    return min(align, channels)


def normalised(scores: Sequence[float], name: str) -> list[Fraction]:
    u = [Fraction(score) for score in scores]
    if name == "none":
        return u
    if name == "layer":
        mean = sum(u, Fraction(0)) / len(u)
        return [value / mean if mean else Fraction(1) for value in u]
    if name == "module":
        shares = []
        for value in u:
            larger = sum((other * other for other in u if other >= value), Fraction(0))
            shares.append(value * value / larger if larger else Fraction(1))
        return shares
    raise ValueError(name)


def leaving_order(scores: Sequence[float]) -> list[int]:
    """Lowest score first; of equal ones the higher index."""
    return sorted(range(len(scores)), key=lambda j: (scores[j], -j))


def step_sizes(units: int, align: int, least: int) -> list[int]:
    sizes: list[int] = []
    left = units
    while True:
        size = left % align or align
        if left - size < least:
            return sizes
        sizes.append(size)
        left -= size


def steps_of(site: Site) -> list[list[int]]:
    """The units that leave with every step."""
    order = leaving_order(site.scores)
    steps = []
    for size in step_sizes(len(order), site.align, site.least):
        steps.append(order[:size])
        order = order[size:]
    return steps


def saved_by(sites: Sequence[Site], removals: Sequence[Removal]) -> Fraction:
    return sum((Fraction(sites[s].saving) * len(units) for s, units in removals), Fraction(0))


def outcome(sites: Sequence[Site], total: float, removals: Sequence[Removal]) -> Allocation:
    gone = [{j for s, units in removals if s == number for j in units} for number in range(len(sites))]
    kept = {
        (site.layer, site.kind): [j for j in range(len(site.scores)) if j not in gone[number]]
        for number, site in enumerate(sites)
    }
    return Allocation(kept, float(Fraction(total) - saved_by(sites, removals)))


def taken_until(sites: Sequence[Site], ordered: Sequence[Removal], wanted: Fraction) -> list[Removal]:
    """From the front until `wanted` is saved; then without the last one if that is nearer (equally near: with it)."""
    taken: list[Removal] = []
    saved = before = Fraction(0)
    for removal in ordered:
        if saved >= wanted:
            break
        before, saved = saved, saved + saved_by(sites, [removal])
        taken.append(removal)
    if saved >= wanted and wanted - before < saved - wanted:
        taken = taken[:-1]
    return taken
