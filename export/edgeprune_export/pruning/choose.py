"""From statistics to a plan: blocks first, then heads and channels until the target of each part is reached."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeprune.errors import PlanError
from edgeprune.later import torch
from edgeprune.models.spec import Width
from edgeprune.structure.allocate import ALLOCATIONS, SiteCandidate, allocate, energies, kept_units
from edgeprune.structure.cost import Price
from edgeprune.structure.importance import IMPORTANCES
from edgeprune.structure.normalise import NORMALISATIONS
from edgeprune.structure.plan import BlockPlan, ModelPart, StructurePlan, widths
from edgeprune.structure.request import StructureRequest
from edgeprune.structure.sites import PruningSite, Specs, sites
from edgeprune.structure.statistics import Statistics
from edgeprune.structure.steps import alignment, removal_order
from edgeprune.structure.targets import PruneTarget

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Prediction:
    """What a plan comes to for one part, in the target's measure."""

    part: ModelPart
    target: PruneTarget
    before: float
    after: float


@dataclass(frozen=True)
class PlanWithCost:
    plan: StructurePlan
    predictions: tuple[Prediction, ...] = field(default_factory=tuple)


def choose(
    module: nn.Module,
    specs: Specs,
    requests: Mapping[ModelPart, StructureRequest],
    prices: Mapping[ModelPart, Price],
    statistics: Statistics,
    block_scores: Mapping[ModelPart, Sequence[float]],
) -> PlanWithCost:
    """Raises PlanError for a target that cannot be reached, with the smallest that can."""
    everywhere = sites(module, specs)
    plans: dict[ModelPart, tuple[BlockPlan, ...]] = {}
    predictions = []
    for part, request in requests.items():
        spec, count = specs[part]
        gone = _blocks_that_leave(request, block_scores.get(part, ()), spec.must_stay)
        left = [site for site in everywhere if site.part == part and site.block not in gone]
        full = widths(spec, count)
        price = prices[part]
        before = price.of(full)
        wanted = wanted_of(request.target, before)
        stay = [i for i in range(count) if i not in gone]
        now = price.of([full[i] for i in stay], stay)
        candidates = [_candidate(site, request, price.at(site.block, stay), statistics) for site in left]
        taken = steps_to(part, request, candidates, now, wanted, before)
        kept = kept_units(candidates, taken)
        plans[part] = tuple(
            BlockPlan(i, kept[part, i, "heads"], kept[part, i, "mlp"]) for i in range(count) if i not in gone
        )
        after = price.of([Width(len(b.heads), len(b.mlp)) for b in plans[part]], stay)
        predictions.append(Prediction(part, request.target, before, after))
    return PlanWithCost(StructurePlan(plans), tuple(predictions))


def wanted_of(target: PruneTarget, before: float) -> float:
    """The target in its own measure: bytes, or a share of what the part is before."""
    return target.value if target.measure == "memory" else target.value * before


def steps_to(
    part: ModelPart,
    request: StructureRequest,
    candidates: Sequence[SiteCandidate],
    now: float,
    wanted: float,
    before: float,
) -> list[int]:
    """Steps of every candidate that leave, from a cost of `now` down to `wanted`. Raises PlanError with the smallest share that can be."""
    rule = ALLOCATIONS.get(request.allocation)
    try:
        return allocate(rule, candidates, now - wanted)
    except PlanError as error:
        least = now - sum(sum(candidate.savings()) for candidate in candidates)
        what = f"{least / 2**20:.1f} MiB" if request.target.measure == "memory" else f"{least / before:.3f}"
        raise PlanError(
            f"the {part} cannot reach {request.target.label}: with one head group and {request.align} channels left in every block it is at "
            f"{what}; ask for more than that, remove blocks, or choose a smaller --align"
        ) from error


def _candidate(
    site: PruningSite, request: StructureRequest, each: tuple[float, float], statistics: Statistics
) -> SiteCandidate:
    stats = statistics.of(site)
    scores = IMPORTANCES[request.importance].score(site, stats, request.seed)
    if not bool(torch.isfinite(scores).all()):
        raise PlanError(
            f"{request.importance} gives {site.name} scores that are not finite; calibrate on other pictures"
        )
    saving = each[0] if site.kind == "heads" else each[1]
    taylor = torch.stack(stats.taylor) if stats.taylor else None
    return SiteCandidate(
        removal_order(site.part, site.block, site.kind, scores, alignment(site.kind, request.align, site.width)),
        NORMALISATIONS.get(request.normalise)(scores),
        saving,
        taylor,
        energies(site.out.weight, site.units),
    )


def _blocks_that_leave(request: StructureRequest, scores: Sequence[float], stay: Container[int]) -> set[int]:
    """The least important ones of those that may; of equal ones the later."""
    free = (i for i in range(len(scores)) if i not in stay)
    return set(sorted(free, key=lambda i: (scores[i], -i))[: request.blocks])
