"""HiRED: class-token attention ranks tokens, an early layer's attention shares the budget over tiles."""

from __future__ import annotations

from edgeprune.plan import TokenPlan
from edgeprune.tokens import combine, score, select, weigh
from edgeprune.tokens.registry.method import Method
from edgeprune.tokens.seen import Reads, Reduction, TowerOutputs


def _hired(seen: TowerOutputs, keep: int, plan: TokenPlan) -> Reduction:
    weights = weigh.region_mass(seen, plan.early_layer, plan.alpha)
    scores = score.cls_attention(seen, plan.feature_layer)
    return combine.drop(select.by_priority(scores, weights, seen.slot, keep))


HIRED = Method(
    "hired",
    "class-token attention ranks tokens; an early layer's attention shares the budget over tiles",
    "HiRED, arXiv 2408.10945",
    _hired,
    reads=lambda plan: Reads(attention=(plan.early_layer, plan.feature_layer)),
    evidence="code read",
    differs="paper mode: rectangular regions and attention mass; exact apportionment instead of floors",
)
