"""VisPruner: half of the tokens by class attention, the others by removing near-duplicates round by round."""

from __future__ import annotations

from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine, score, select, weigh
from edgeprune.tokens.duplicates import distinct
from edgeprune.tokens.registry.method import Method, Setting
from edgeprune.tokens.seen import Reads, Reduction, TowerOutputs
from edgeprune.tokens.similar import order_among

_IMPORTANT = Setting("important", 0.5, "share of the budget that attention fills", most=1)
_STEP = Setting("step", 8, "most tokens removed in one round", least=1, whole=True)


def _vispruner(seen: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    real, tokens = score.candidates(seen), seen.slot.shape[1]
    counts = select.shares(weigh.equal(seen), real.sum(dim=1), tokens, keep)
    share = _IMPORTANT(plan)
    important = select.looked_up(counts, tokens, lambda k: select.part(k, share))
    attention = score.cls_mean(seen, plan.feature_layer)
    others = distinct(
        order_among(seen.features),
        select.order(attention, seen.slot),
        skip=important,
        length=real.sum(dim=1) - important,
        until=counts - important,
        step=int(_STEP(plan)),
    )
    return combine.drop(select.exactly(select.best(attention, seen.slot, important) | others, seen.slot, keep))


VISPRUNER = Method(
    "vispruner",
    "half of the tokens by class attention, half by removing near-duplicates",
    "VisPruner, github.com/Theia-4869/VisPruner",
    _vispruner,
    reads=lambda plan: Reads(attention=(plan.feature_layer,)),
    evidence="code read",
    differs="padding is neither kept nor compared",
    cost="N^2 C + N^3 / 8",
    steady=0.4,
    settings=(_IMPORTANT, _STEP),
)
