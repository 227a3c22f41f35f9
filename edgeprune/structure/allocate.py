"""How much every layer gives up: an order over the steps of all sites, followed until a target is reached. Rules: docs/structure.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgeprune.errors import PlanError
from edgeprune.structure.steps import RemovalOrder
from edgeprune_runtime.registry import Registry

LAMBDA = 1e-7  # LPViT's damping of the empirical Fisher matrix


@dataclass(frozen=True)
class SiteCandidate:
    """All an allocation may look at, for one site.

    scores    [units], already normalised
    saving    per unit, in the target's own measure
    taylor    [samples, units] first-order change of the loss per sample; None where it was not measured
    energy    [units] sum of w^2 of a unit's columns of the out matrix
    """

    ladder: RemovalOrder
    scores: Tensor
    saving: float
    taylor: Tensor | None
    energy: Tensor

    def savings(self) -> list[float]:
        counts = self.ladder.counts
        return [(after - before) * self.saving for before, after in zip(counts, counts[1:], strict=False)]


SiteKey = Callable[[SiteCandidate], list[float]]


def uniform(rung: SiteCandidate) -> list[float]:
    """Steps ordered by the keep share below which they leave, the largest share first."""
    units, counts = len(rung.scores), rung.ladder.counts
    return [-(2 * units - before - after) / (2 * units) for before, after in zip(counts, counts[1:], strict=False)]


def by_score(rung: SiteCandidate) -> list[float]:
    """Steps ordered by score lost per saving."""
    sums = rung.ladder.sums(rung.scores).tolist()
    return [score / saving for score, saving in zip(sums, rung.savings(), strict=True)]


def slope(rung: SiteCandidate) -> list[float]:
    """Steps ordered by the slope of the lower convex hull of (saving, distortion) where they lie."""
    saved = [0.0]
    for saving in rung.savings():
        saved.append(saved[-1] + saving)
    return hull_slopes(saved, [0.0, *distortion(rung).tolist()])


def distortion(rung: SiteCandidate) -> Tensor:
    """D after each step: mean_s C_s^2 + 0.5 (mean_s C_s^2 + 1e-7 energy of the removed), C_s = sum of the removed units' T_s. [steps]."""
    assert rung.taylor is not None
    change = rung.ladder.sums(rung.taylor).cumsum(dim=-1).square().mean(dim=0)
    return 1.5 * change + 0.5 * LAMBDA * rung.ladder.sums(rung.energy).cumsum(dim=-1)


def hull_slopes(x: Sequence[float], y: Sequence[float]) -> list[float]:
    """Slope of the lower convex hull of the points over each interval between neighbours; x ascending."""
    corners: list[int] = []
    for i in range(len(x)):
        while len(corners) > 1 and _slope(x, y, corners[-2], corners[-1]) >= _slope(x, y, corners[-1], i):
            corners.pop()
        corners.append(i)
    edges = zip(corners, corners[1:], strict=False)
    return [_slope(x, y, start, stop) for start, stop in edges for _ in range(start, stop)]


def _slope(x: Sequence[float], y: Sequence[float], start: int, stop: int) -> float:
    return (y[stop] - y[start]) / (x[stop] - x[start])


@dataclass(frozen=True)
class Allocation:
    """`key` orders the steps, ascending. apart: heads and channels give up the same share each."""

    name: str
    what: str
    source: str
    key: SiteKey
    apart: bool = False
    gradients: bool = False


ALLOCATIONS: Registry[Allocation] = Registry("allocation", group="edgeprune.allocations", kind=Allocation)
for _one in (
    Allocation("uniform", "the same share of every layer", "AMP", uniform),
    Allocation("global", "one ranking over all layers, by score per saving", "SPA", by_score),
    Allocation("module", "as global, heads and channels apart", "DIMAP, arXiv 2404.13648", by_score, apart=True),
    Allocation("slope", "equal slope of distortion over saving", "LPViT, arXiv 2407.02068", slope, gradients=True),
):
    ALLOCATIONS.add(_one.name, _one)


def allocate(rule: Allocation, rungs: Sequence[SiteCandidate], needed: float) -> list[int]:
    """Steps that leave, per rung, so that at least about `needed` is saved. Raises PlanError where all steps together save less."""
    possible = [sum(rung.savings()) for rung in rungs]
    if sum(possible) < needed * (1 - 1e-9):
        raise PlanError(f"all that may leave saves {sum(possible):g} of {needed:g} needed")
    taken = [0] * len(rungs)
    kinds = sorted({rung.ladder.kind for rung in rungs}) if rule.apart else [None]
    for kind in kinds:
        places = [i for i, rung in enumerate(rungs) if kind in (None, rung.ladder.kind)]
        share = sum(possible[i] for i in places) / (sum(possible) or 1.0)
        _take(rule, rungs, places, needed * share, taken)
    return taken


def _take(
    rule: Allocation, rungs: Sequence[SiteCandidate], places: Sequence[int], needed: float, taken: list[int]
) -> None:
    steps = [
        (key, place, number, saving)
        for place in places
        for number, (key, saving) in enumerate(zip(rule.key(rungs[place]), rungs[place].savings(), strict=True))
    ]
    steps.sort(key=lambda step: step[:3])
    saved = 0.0
    for _, place, _, saving in steps:
        if saved >= needed * (1 - 1e-12) or saved + saving - needed > needed - saved:
            return  # reached, or nearer without this step
        saved += saving
        taken[place] += 1


def kept_units(rungs: Sequence[SiteCandidate], taken: Sequence[int]) -> dict[tuple[str, int, str], tuple[int, ...]]:
    """(part, block, kind) -> units that stay."""
    return {
        (rung.ladder.part, rung.ladder.block, rung.ladder.kind): rung.ladder.kept(steps)
        for rung, steps in zip(rungs, taken, strict=True)
    }


def energies(weight: Tensor, units: int) -> Tensor:
    """Sum of w^2 of each unit's columns of an out matrix [D, in]: [units] float64."""
    with torch.no_grad():
        return weight.double().square().sum(dim=0).reshape(units, -1).sum(dim=1)
