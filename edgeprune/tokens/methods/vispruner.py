"""VisPruner: half of the tokens by class attention, the others by removing near-duplicates round by round."""

from __future__ import annotations

from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine, score, select, weigh
from edgeprune.tokens.duplicates import distinct
from edgeprune.tokens.readings import Reduction, TowerOutputs
from edgeprune.tokens.registry.method import Method, Setting
from edgeprune.tokens.similar import order_among

_IMPORTANT = Setting("important", 0.5, "share of the budget that attention fills", most=1)
_STEP = Setting("step", 8, "most tokens removed in one round", least=1, whole=True)


def _vispruner(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    real, tokens = score.candidates(outputs), outputs.slot.shape[1]
    counts = select.shares(weigh.equal(outputs), real.sum(dim=1), tokens, keep)
    share = _IMPORTANT(plan)
    important = select.looked_up(counts, tokens, lambda k: select.part(k, share))
    attention = score.salience(outputs, plan)
    others = distinct(
        order_among(outputs.features),
        select.order(attention, outputs.slot),
        skip=important,
        length=real.sum(dim=1) - important,
        until=counts - important,
        step=int(_STEP(plan)),
    )
    return combine.drop(select.exactly(select.best(attention, outputs.slot, important) | others, outputs.slot, keep))


VISPRUNER = Method(
    "vispruner",
    "half of the tokens by class attention, half by removing near-duplicates",
    "VisPruner, github.com/Theia-4869/VisPruner",
    _vispruner,
    reads=score.salience_reads,
    evidence="code read",
    differs="towers without a class token: attention received instead, as the authors do; padding is neither kept nor compared",
    cost="N^2 C + N^3 / 8",
    steady=0.4,
    settings=(_IMPORTANT, _STEP),
)
