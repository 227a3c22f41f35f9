"""FlowCut: tokens leave inside the tower, by how much information flows through them from block to block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine, flow, select
from edgeprune.tokens.registry.method import Calibration, Method, Setting
from edgeprune.tokens.seen import Reads, Reduction, TowerOutputs

_RATIO = Setting(
    "entropy_ratio", 0.75, "entropy ratio of class attention where it was not calibrated", most=1, per_layer=True
)


def _reduce(seen: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    left = torch.where(seen.flow >= 0, seen.slot, -1)  # a token that has left the tower cannot be kept
    return combine.drop(select.by_score(seen.flow, left, keep))


def _cuts(plan: MethodPlan, keep: int, tiles: int, tokens: int) -> dict[int, int]:
    """One tile is cut to K; each of several to half of it, as in the source."""
    target = keep if tiles == 1 else -(-keep // 2)
    ratios = {i: plan.settings.get(f"entropy_ratio_{i}", _RATIO(plan)) for i in range(plan.feature_layer)}
    return flow.counts(ratios, plan.feature_layer, tokens, target)


def _measure(seen: TowerOutputs, plan: MethodPlan) -> dict[str, float]:
    """Entropy ratio at every cut, mean over tiles; the tower is not cut for it."""
    ratios = {}
    for block in range(plan.feature_layer - 1, -1, -2):
        rows = seen.attention[block].mean(dim=1)
        valid = (seen.slot >= 0).to(rows.dtype)
        tiles = [flow.entropy_ratio(rows[t], valid[t]) for t in range(rows.shape[0]) if valid[t].sum() > 1]
        ratios[f"entropy_ratio_{block}"] = float(torch.stack(tiles).mean())
    return ratios


def _settle(measured: Sequence[Mapping[str, float]], plan: MethodPlan) -> dict[str, float]:
    return {name: sum(one[name] for one in measured) / len(measured) for name in measured[0]}


FLOWCUT = Method(
    "flowcut",
    "tokens leave inside the tower, by the flow of information through them",
    "FlowCut, repository TungChintao/FlowCut",
    _reduce,
    reads=lambda plan: Reads(flow=True),
    evidence="code read",
    differs="counts are frozen instead of drawn from each picture; several tiles: the last step, which the source does inside the "
    "language model, is the K best scores of the picture; thin pictures may have fewer than K survivors",
    cost="N log N per cut",
    settings=(_RATIO,),
    calibration=Calibration(
        "entropy ratio of class attention at every cut",
        _measure,
        _settle,
        reads=lambda plan: Reads(attention=tuple(range(plan.feature_layer - 1, -1, -2))),
    ),
    cuts=_cuts,
)
