"""VisionZip: dominant tokens by class attention, the rest added to evenly spaced contextual ones."""

from __future__ import annotations

import torch
from torch import Tensor

from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine, score, select, weigh
from edgeprune.tokens.registry.method import Method, Setting
from edgeprune.tokens.seen import Reads, Reduction, TowerOutputs
from edgeprune.tokens.similar import among

_CONTEXTUAL = Setting("contextual", 10 / 64, "share of the budget for contextual tokens", most=1)


def _metric(seen: TowerOutputs, layer: int) -> Tensor:
    """Mean over heads of the keys: [T, N, C / H]."""
    heads = seen.attention[layer].shape[1]
    return seen.keys[layer].view(*seen.slot.shape, heads, -1).mean(dim=2)


def _targets(left: Tensor, keep: int, seen: TowerOutputs) -> Tensor:
    """Evenly spaced tokens of what is left, `keep` in equal shares: [T, N] bool."""
    size = left.sum(dim=1, keepdim=True)
    count = select.shares(weigh.equal(seen), size[:, 0], left.shape[1], keep)[:, None]
    stride = torch.clamp(torch.div(size, torch.clamp(count, min=1), rounding_mode="floor"), min=1)
    number = select.number(left)
    return left & (number % stride == 0) & (torch.div(number, stride, rounding_mode="floor") < count)


def _visionzip(seen: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    tiles, tokens = seen.slot.shape
    real, contextual = score.candidates(seen), select.part(keep, _CONTEXTUAL(plan))
    counts = select.shares(weigh.equal(seen), real.sum(dim=1), tokens, keep - contextual)
    dominant = select.best(score.cls_attention(seen, plan.feature_layer), seen.slot, counts)
    if contextual == 0:
        return combine.drop(select.exactly(dominant, seen.slot, keep))
    left = real & ~dominant
    target = _targets(left, contextual, seen)
    index = select.exactly(dominant | target, seen.slot, keep)

    alike = torch.where(target[:, None], among(_metric(seen, plan.feature_layer)), -2.0)
    nearest = torch.argmax(alike, dim=2) + torch.arange(tiles)[:, None] * tokens
    joining = left & ~target & target.any(dim=1, keepdim=True)
    members = combine.joined(index, torch.where(joining, nearest, -2).flatten())
    return combine.merge(index, combine.itself(index, tiles * tokens) + combine.mean(members), seen.slot)


VISIONZIP = Method(
    "visionzip",
    "dominant tokens by class attention; the rest is added to evenly spaced contextual tokens",
    "VisionZip, github.com/dvlab-research/VisionZip",
    _visionzip,
    reads=lambda plan: Reads(attention=(plan.feature_layer,), keys=(plan.feature_layer,)),
    evidence="code read",
    differs="the class token is not handed to the language model; tiles share both parts equally",
    cost="N^2 C / H + K N C",
    steady=0.8,
    settings=(_CONTEXTUAL,),
)
