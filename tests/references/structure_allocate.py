"""References of the allocators of structured pruning, written from docs/structure.md only.

Decisions are taken in exact fractions of the numbers given. Equal ranks of different sites: the site that comes first
in the list gives first. A target out of reach: everything that may leave does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from .structure_steps import (
    Allocation,
    Removal,
    Site,
    channel_least,
    head_alignment,
    leaving_order,
    normalised,
    outcome,
    saved_by,
    step_sizes,
    steps_of,
    taken_until,
)

__all__ = [
    "ALLOCATORS",
    "Allocation",
    "Site",
    "channel_least",
    "distortion",
    "global_",
    "head_alignment",
    "leaving_order",
    "lower_hull",
    "module",
    "normalised",
    "slope",
    "step_sizes",
    "steps_of",
    "uniform",
]


def uniform(sites: Sequence[Site], total: float, target: float) -> Allocation:
    """The keep share falls from 1; what falls below its breakpoint leaves, one step after the other."""
    ordered: list[tuple[Fraction, int, list[int]]] = []
    for number, site in enumerate(sites):
        left = len(site.scores)
        for step in steps_of(site):
            ordered.append((Fraction(2 * left - len(step), 2 * len(site.scores)), number, step))
            left -= len(step)
    removals = [(number, step) for _, number, step in sorted(ordered, key=lambda one: (-one[0], one[1]))]
    return outcome(sites, total, taken_until(sites, removals, Fraction(total) - Fraction(target)))


def _by_ratio(sites: Sequence[Site], numbers: Sequence[int], normalisation: str) -> list[Removal]:
    """Again and again the cheapest of the next steps of all sites."""
    waiting: dict[int, list[tuple[Fraction, list[int]]]] = {}
    for s in numbers:
        value = normalised(sites[s].scores, normalisation)
        waiting[s] = [
            (sum((value[j] for j in step), Fraction(0)) / saved_by(sites, [(s, step)]), step)
            for step in steps_of(sites[s])
        ]
    ordered: list[Removal] = []
    while any(waiting.values()):
        cheapest = min((s for s in numbers if waiting[s]), key=lambda s: (waiting[s][0][0], s))
        ordered.append((cheapest, waiting[cheapest].pop(0)[1]))
    return ordered


def global_(sites: Sequence[Site], total: float, target: float, normalisation: str = "none") -> Allocation:
    ordered = _by_ratio(sites, range(len(sites)), normalisation)
    return outcome(sites, total, taken_until(sites, ordered, Fraction(total) - Fraction(target)))


def module(sites: Sequence[Site], total: float, target: float, normalisation: str = "none") -> Allocation:
    """What a kind could save is what all its steps together save."""
    kinds = sorted({site.kind for site in sites})
    ranked = {k: _by_ratio(sites, [s for s, site in enumerate(sites) if site.kind == k], normalisation) for k in kinds}
    most = {kind: saved_by(sites, ordered) for kind, ordered in ranked.items()}
    removals: list[Removal] = []
    if sum(most.values()) > 0:
        share = (Fraction(total) - Fraction(target)) / sum(most.values())
        for kind in kinds:
            removals += taken_until(sites, ranked[kind], share * most[kind])
    return outcome(sites, total, removals)


def distortion(site: Site, removed: Sequence[int]) -> float:
    assert site.terms is not None
    sums = [math.fsum(float(row[j]) for j in removed) for row in site.terms]
    squares = math.fsum(c * c for c in sums) / len(sums)
    return squares + 0.5 * (squares + 1e-7 * math.fsum(site.squared[j] for j in removed))


def lower_hull(points: Sequence[tuple[Fraction, Fraction]]) -> list[int]:
    """Numbers of the points, ascending in x, that no segment between two others passes below or through."""

    def under(i: int, a: int, b: int) -> bool:
        (x, y), (xa, ya), (xb, yb) = points[i], points[a], points[b]
        return ya + (yb - ya) * (x - xa) / (xb - xa) <= y

    everyone = range(len(points))
    return [i for i in everyone if not any(under(i, a, b) for a in range(i) for b in everyone[i + 1 :])]


def slope(sites: Sequence[Site], total: float, target: float, whole_edges: bool = False) -> Allocation:
    """Steps in ascending slope of the hull edge they lie under, one by one (`whole_edges`: an edge's all at once)."""
    edges: list[tuple[Fraction, int, list[list[int]]]] = []
    for number, site in enumerate(sites):
        steps = steps_of(site)
        removed = [[j for step in steps[:k] for j in step] for k in range(len(steps) + 1)]
        points = [(Fraction(site.saving) * len(gone), Fraction(distortion(site, gone))) for gone in removed]
        corners = lower_hull(points)
        for a, b in zip(corners, corners[1:], strict=False):
            rise = (points[b][1] - points[a][1]) / (points[b][0] - points[a][0])
            edges.append((rise, number, steps[a:b]))
    ordered: list[Removal] = []
    for rise in sorted({edge[0] for edge in edges}):  # the slope is raised
        for edge, number, steps in edges:
            if edge == rise:
                together = [[j for step in steps for j in step]] if whole_edges else steps
                ordered += [(number, units) for units in together]
    return outcome(sites, total, taken_until(sites, ordered, Fraction(total) - Fraction(target)))


ALLOCATORS: dict[str, Callable[..., Allocation]] = {
    "uniform": uniform,
    "global": global_,
    "module": module,
    "slope": slope,
}
