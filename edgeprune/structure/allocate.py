"""How much every layer gives up: an order over the steps of all sites, followed until a target is reached. Rules: docs/structure.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeprune.errors import PlanError
from edgeprune.later import torch
from edgeprune.structure.steps import RemovalOrder
from edgeprune_runtime.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

LAMBDA = 1e-7  # LPViT's damping of the empirical Fisher matrix


@dataclass(frozen=True)
class SiteCandidate:
    """All an allocation may look at, for one site.

    scores    [units], already normalised
    saving    per unit, in the target's own measure
    taylor    [samples, units] first-order change of the loss per sample; None where it was not measured
    energy    [units] sum of w^2 of a unit's columns of the out matrix
    """

    removal: RemovalOrder
    scores: Tensor
    saving: float
    taylor: Tensor | None
    energy: Tensor

    def savings(self) -> list[float]:
        counts = self.removal.counts
        return [(after - before) * self.saving for before, after in zip(counts, counts[1:], strict=False)]


SiteKey = Callable[[SiteCandidate], list[float]]


def uniform(candidate: SiteCandidate) -> list[float]:
    """Steps ordered by the keep share below which they leave, the largest share first."""
    units, counts = len(candidate.scores), candidate.removal.counts
    return [-(2 * units - before - after) / (2 * units) for before, after in zip(counts, counts[1:], strict=False)]


def by_score(candidate: SiteCandidate) -> list[float]:
    """Steps ordered by score lost per saving."""
    sums = candidate.removal.sums(candidate.scores).tolist()
    return [score / saving for score, saving in zip(sums, candidate.savings(), strict=True)]


def slope(candidate: SiteCandidate) -> list[float]:
    """Steps ordered by the slope of the lower convex hull of (saving, distortion) where they lie."""
    saved = [0.0]
    for saving in candidate.savings():
        saved.append(saved[-1] + saving)
    return hull_slopes(saved, [0.0, *distortion(candidate).tolist()])


def distortion(candidate: SiteCandidate) -> Tensor:
    """D after each step: mean_s C_s^2 + 0.5 (mean_s C_s^2 + 1e-7 energy of the removed), C_s = sum of the removed units' T_s. [steps]."""
    assert candidate.taylor is not None
    change = candidate.removal.sums(candidate.taylor).cumsum(dim=-1).square().mean(dim=0)
    return 1.5 * change + 0.5 * LAMBDA * candidate.removal.sums(candidate.energy).cumsum(dim=-1)


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
    """`key` orders the steps, ascending. separate_kinds: heads and channels give up the same share each."""

    name: str
    what: str
    source: str
    key: SiteKey
    separate_kinds: bool = False
    gradients: bool = False


ALLOCATIONS: Registry[Allocation] = Registry("allocation", group="edgeprune.allocations", kind=Allocation)
for _one in (
    Allocation("uniform", "the same share of every layer", "AMP", uniform),
    Allocation("global", "one ranking over all layers, by score per saving", "SPA", by_score),
    Allocation(
        "module", "as global, heads and channels apart", "DIMAP, arXiv 2404.13648", by_score, separate_kinds=True
    ),
    Allocation("slope", "equal slope of distortion over saving", "LPViT, arXiv 2407.02068", slope, gradients=True),
):
    ALLOCATIONS.add(_one.name, _one)


def allocate(rule: Allocation, candidates: Sequence[SiteCandidate], needed: float) -> list[int]:
    """Steps that leave, per site, so that at least about `needed` is saved. Raises PlanError where all steps together save less."""
    possible = [sum(candidate.savings()) for candidate in candidates]
    if sum(possible) < needed * (1 - 1e-9):
        raise PlanError(f"all that may leave saves {sum(possible):g} of {needed:g} needed")
    taken = [0] * len(candidates)
    kinds = sorted({candidate.removal.kind for candidate in candidates}) if rule.separate_kinds else [None]
    for kind in kinds:
        places = [i for i, candidate in enumerate(candidates) if kind in (None, candidate.removal.kind)]
        share = sum(possible[i] for i in places) / (sum(possible) or 1.0)
        _take(rule, candidates, places, needed * share, taken)
    return taken


def _take(
    rule: Allocation, candidates: Sequence[SiteCandidate], places: Sequence[int], needed: float, taken: list[int]
) -> None:
    steps = [
        (key, place, number, saving)
        for place in places
        for number, (key, saving) in enumerate(
            zip(rule.key(candidates[place]), candidates[place].savings(), strict=True)
        )
    ]
    steps.sort(key=lambda step: step[:3])
    saved = 0.0
    for _, place, _, saving in steps:
        if saved >= needed * (1 - 1e-12) or saved + saving - needed > needed - saved:
            return  # reached, or nearer without this step
        saved += saving
        taken[place] += 1


def kept_units(
    candidates: Sequence[SiteCandidate], taken: Sequence[int]
) -> dict[tuple[str, int, str], tuple[int, ...]]:
    """(part, block, kind) -> units that stay."""
    return {
        (candidate.removal.part, candidate.removal.block, candidate.removal.kind): candidate.removal.kept(steps)
        for candidate, steps in zip(candidates, taken, strict=True)
    }


def energies(weight: Tensor, units: int) -> Tensor:
    """Sum of w^2 of each unit's columns of an out matrix [D, in]: [units] float64."""
    with torch.no_grad():
        return weight.double().square().sum(dim=0).reshape(units, -1).sum(dim=1)
