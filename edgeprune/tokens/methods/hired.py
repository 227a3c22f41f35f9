"""HiRED: class-token attention ranks tokens, an early layer's attention shares the budget over tiles."""

from __future__ import annotations

from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine, score, select, weigh
from edgeprune.tokens.readings import Reduction, TowerOutputs, reads
from edgeprune.tokens.registry.method import Method, Setting

_ALPHA = Setting("alpha", 0.5, "share of the budget for the thumbnail", most=1)
_EARLY = Setting(
    "early_layer", 0, "vision layer whose attention shares the budget over tiles", whole=True, is_layer=True
)


def _hired(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    weights = weigh.region_mass(outputs, int(_EARLY(plan)), _ALPHA(plan))
    scores = score.cls_attention(outputs, plan.feature_layer)
    return combine.drop(select.by_priority(scores, weights, outputs.slot, keep))


HIRED = Method(
    "hired",
    "class-token attention ranks tokens; an early layer's attention shares the budget over tiles",
    "HiRED, arXiv 2408.10945",
    _hired,
    reads=lambda plan: reads("overview", attention=(int(_EARLY(plan)), plan.feature_layer)),
    evidence="code read",
    differs="paper mode: rectangular regions and attention mass; exact apportionment instead of floors",
    settings=(_ALPHA, _EARLY),
)
