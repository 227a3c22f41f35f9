"""FlowCut: tokens leave inside the tower, by how much information flows through them from block to block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.models.spec import TowerSpec
from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine, select
from edgeprune.tokens.inside.tower.flow import FLOW, shares
from edgeprune.tokens.inside.tower.plan.cuts import TowerCuts
from edgeprune.tokens.readings import Reduction, TowerOutputs, reads
from edgeprune.tokens.registry.method import Calibration, Method, Setting

if TYPE_CHECKING:
    from torch import Tensor

_RATIO = Setting(
    "entropy_ratio", 0.75, "entropy ratio of class attention where it was not calibrated", most=1, per_layer=True
)


def counts(ratios: dict[int, float], blocks: int, tokens: int, target: int) -> dict[int, int]:
    """Tokens left after each step: {block: count}, for features from block number `blocks` and entropy ratios e by block.

    n - round((n - target) / sqrt(r) * (1 - e^2)) after blocks with an even number r of blocks to go; the last one leaves the target.
    """
    left_after, n = {}, tokens
    for block in range(blocks):
        left = blocks - 1 - block
        if left % 2 == 0 and n > target:
            n = target if left == 0 else n - round((n - target) / left**0.5 * (1 - ratios[block] ** 2))
            left_after[block] = max(n, target)
    return left_after


def entropy_ratio(attention: Tensor, valid: Tensor) -> Tensor:
    """H(a) / log n of class attention over the n tokens that are no padding. attention [n], valid [n] 0/1 -> []."""
    a = shares(attention * valid)
    entropy = -(a * torch.log(torch.clamp(a, min=1e-12))).sum()
    return entropy / torch.log(torch.clamp(valid.sum(), min=2.0))


def own_cuts(plan: MethodPlan, keep: int, tiles: int, tower: TowerSpec) -> TowerCuts:
    """One tile is cut to K; each of several to half of it, as in the source."""
    tokens = tower.grid[0] * tower.grid[1]
    target = keep if tiles == 1 else -(-keep // 2)
    ratios = {i: plan.settings.get(f"entropy_ratio_{i}", _RATIO(plan)) for i in range(plan.feature_layer)}
    left = counts(ratios, plan.feature_layer, tokens, target)
    return TowerCuts(FLOW, left, tokens, tower.prefix_tokens, tower.grid)


def _reduce(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    return combine.drop(select.by_score(outputs["carried"], outputs.slot, keep))


def _measure(outputs: TowerOutputs, plan: MethodPlan) -> dict[str, float]:
    """Entropy ratio at every step, mean over tiles; no token leaves for it."""
    ratios = {}
    for block in range(plan.feature_layer - 1, -1, -2):
        rows = outputs["attention", block].mean(dim=1)
        valid = (outputs.slot >= 0).to(rows.dtype)
        tiles = [entropy_ratio(rows[t], valid[t]) for t in range(rows.shape[0]) if valid[t].sum() > 1]
        ratios[f"entropy_ratio_{block}"] = float(torch.stack(tiles).mean())
    return ratios


def _settle(measured: Sequence[Mapping[str, float]], plan: MethodPlan) -> dict[str, float]:
    return {name: sum(one[name] for one in measured) / len(measured) for name in measured[0]}


FLOWCUT = Method(
    "flowcut",
    "tokens leave inside the tower, by the flow of information through them",
    "FlowCut, repository TungChintao/FlowCut",
    _reduce,
    reads=lambda plan: reads("carried"),
    evidence="code read",
    differs="counts are frozen instead of drawn from each picture; several tiles: the last step, which the source does inside the "
    "language model, is the K best scores of the picture; thin pictures may have fewer than K survivors",
    cost="N log N per cut",
    settings=(_RATIO,),
    calibration=Calibration(
        "entropy ratio of class attention at every cut",
        _measure,
        _settle,
        reads=lambda plan: reads(attention=tuple(range(plan.feature_layer - 1, -1, -2))),
    ),
    own_cuts=own_cuts,
)
