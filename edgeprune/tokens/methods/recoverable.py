"""Recoverable Compression: tokens like the class token, then tokens like the question, then means of the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.errors import PlanError
from edgeprune.later import torch
from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine, score, select, weigh
from edgeprune.tokens.readings import Reduction, TowerOutputs, reads
from edgeprune.tokens.registry.method import Method, Setting
from edgeprune.tokens.similar import cosine

if TYPE_CHECKING:
    from torch import Tensor

_VISUAL = Setting("visual_share", 0.5, "share of the budget for tokens like the class token", most=1)
_TEXT = Setting("text_share", 0.3, "share of the budget for tokens like the question", most=1)


def _taken(scores: Tensor, outputs: TowerOutputs, left: Tensor, keep: int) -> Tensor:
    """The best of what is left, `keep` in equal shares: [T, N] bool."""
    if keep == 0:
        return torch.zeros_like(left)
    counts = select.shares(weigh.equal(outputs), left.sum(dim=1), left.shape[1], keep)
    return select.best(scores, torch.where(left, outputs.slot, -1), counts)


def _anchors(left: Tensor, slot: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`count` evenly spaced tokens of what is left, in slot order (flat, [count]), and which of them exist."""
    sequence = select.exactly(left, slot, slot.numel())
    size, i = left.sum(), torch.arange(count)
    anchors = sequence[torch.where(size > count, select.spaced(size, count), i)]
    return torch.clamp(anchors, min=0), anchors >= 0


def _joins(outputs: TowerOutputs, left: Tensor, count: int) -> Tensor:
    """The anchor that each left token joins, its own for an anchor: flat [T * N], -2 for all others."""
    anchors, exists = _anchors(left, outputs.slot, count)
    features, place = outputs.features.flatten(0, 1), torch.arange(left.numel())
    alike = torch.where(exists, cosine(features, features.index_select(0, anchors)), -2.0)  # [T * N, count]
    is_anchor = ((place[:, None] == anchors) & exists).any(dim=1)
    target = torch.where(is_anchor, place, anchors[torch.argmax(alike, dim=1)])
    return torch.where(left.flatten(), target, -2)


def _recoverable(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    visual, text = select.part(keep, _VISUAL(plan)), select.part(keep, _TEXT(plan))
    if visual + text > keep:
        raise PlanError("visual_share and text_share exceed 1 together; lower one of them")
    left = score.candidates(outputs)
    alike = cosine(outputs.features, outputs["class_feature"][:, None])[:, :, 0]
    chosen = _taken(alike, outputs, left, visual)
    chosen = chosen | _taken(score.relevance(outputs), outputs, left & ~chosen, text)
    if visual + text == keep:
        return combine.drop(select.exactly(chosen, outputs.slot, keep))
    target = _joins(outputs, left & ~chosen, keep - visual - text)
    anchor = (target == torch.arange(target.shape[0])).view(left.shape)
    index = select.exactly(chosen | anchor, outputs.slot, keep)
    return combine.merge(index, combine.mean_or_itself(combine.joined(index, target), index), outputs.slot)


RECOVERABLE = Method(
    "recoverable",
    "tokens like the class token, tokens like the question, and means of the rest",
    "Recoverable Compression, github.com/banjiuyufen/Recoverable-Compression",
    _recoverable,
    reads=lambda plan: reads("question", "projected", "class_feature"),
    evidence="reconstruction",
    differs="fixed shares instead of outlier thresholds; evenly spaced anchors instead of clusters; no CLIP text tower",
    cost="K N C",
    steady=0.8,
    settings=(_VISUAL, _TEXT),
)
