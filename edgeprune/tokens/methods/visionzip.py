"""VisionZip: dominant tokens by class attention, the rest added to evenly spaced contextual ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine, score, select, weigh
from edgeprune.tokens.readings import Reduction, TowerOutputs, reads
from edgeprune.tokens.registry.method import Method, Setting
from edgeprune.tokens.similar import among

if TYPE_CHECKING:
    from torch import Tensor

_CONTEXTUAL = Setting("contextual", 10 / 64, "share of the budget for contextual tokens", most=1)


def _salience(outputs: TowerOutputs, plan: MethodPlan) -> Tensor:
    layer = plan.feature_layer
    return score.cls_attention(outputs, layer) if plan.class_token else outputs["received", layer]


def _metric(outputs: TowerOutputs, layer: int) -> Tensor:
    """Mean over heads of the keys: [T, N, d]."""
    return outputs["keys", layer].mean(dim=2)


def _targets(left: Tensor, keep: int, outputs: TowerOutputs) -> Tensor:
    """Evenly spaced tokens of what is left, `keep` in equal shares: [T, N] bool."""
    size = left.sum(dim=1, keepdim=True)
    count = select.shares(weigh.equal(outputs), size[:, 0], left.shape[1], keep)[:, None]
    stride = torch.clamp(torch.div(size, torch.clamp(count, min=1), rounding_mode="floor"), min=1)
    number = select.number(left)
    return left & (number % stride == 0) & (torch.div(number, stride, rounding_mode="floor") < count)


def _visionzip(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    tiles, tokens = outputs.slot.shape
    real, contextual = score.candidates(outputs), select.part(keep, _CONTEXTUAL(plan))
    counts = select.shares(weigh.equal(outputs), real.sum(dim=1), tokens, keep - contextual)
    dominant = select.best(_salience(outputs, plan), outputs.slot, counts)
    if contextual == 0:
        return combine.drop(select.exactly(dominant, outputs.slot, keep))
    left = real & ~dominant
    target = _targets(left, contextual, outputs)
    index = select.exactly(dominant | target, outputs.slot, keep)

    alike = torch.where(target[:, None], among(_metric(outputs, plan.feature_layer)), -2.0)
    nearest = torch.argmax(alike, dim=2) + torch.arange(tiles)[:, None] * tokens
    joining = left & ~target & target.any(dim=1, keepdim=True)
    members = combine.joined(index, torch.where(joining, nearest, -2).flatten())
    return combine.merge(index, combine.itself(index, tiles * tokens) + combine.mean(members), outputs.slot)


VISIONZIP = Method(
    "visionzip",
    "dominant tokens by class attention; the rest is added to evenly spaced contextual tokens",
    "VisionZip, github.com/dvlab-research/VisionZip",
    _visionzip,
    reads=lambda plan: score.salience_reads(plan) | reads(keys=(plan.feature_layer,)),
    evidence="code read",
    differs="towers without a class token: attention received instead, as the authors do; "
    "the class token is not handed to the language model; tiles share both parts equally",
    cost="N^2 C / H + K N C",
    steady=0.8,
    settings=(_CONTEXTUAL,),
)
