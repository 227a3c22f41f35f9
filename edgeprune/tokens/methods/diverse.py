"""Tokens unlike one another, over all tiles together: DivPrune and ToDRE."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine, greedy, score, select
from edgeprune.tokens.readings import Reads, Reduction, TowerOutputs, reads
from edgeprune.tokens.registry.method import Method
from edgeprune.tokens.similar import among

if TYPE_CHECKING:
    from torch import Tensor


def _chosen(
    outputs: TowerOutputs, keep: int, cosine: Tensor, first: Tensor, join: Callable[[Tensor, Tensor], Tensor]
) -> Reduction:
    chosen = greedy.least_alike(cosine, first, score.candidates(outputs).flatten(), keep, join)
    return combine.drop(select.exactly(chosen.view(outputs.slot.shape), outputs.slot, keep))


def _divprune(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    cosine, real = among(outputs["projected"].flatten(0, 1)), score.candidates(outputs).flatten()
    # Two tokens that are nearest to each other are a true tie, which the products of a and b, b and a may round apart.
    cosine = torch.maximum(cosine, cosine.T)
    place = torch.arange(real.shape[0])
    other = real & (place != place[:, None])
    nearest = torch.where(other, cosine, -2.0).amax(dim=1)
    return _chosen(outputs, keep, cosine, torch.argmin(torch.where(real, nearest, 2.0)[None], dim=1)[0], torch.maximum)


def _pivot(outputs: TowerOutputs, plan: MethodPlan) -> Tensor:
    """The overview's token with the highest class attention, []; another tile's where the overview has none."""
    attention = score.cls_mean(outputs, plan.feature_layer)
    elsewhere = 2.0 * (torch.arange(attention.shape[0]) > 0)[:, None]  # more than any attention
    return torch.argmax(torch.where(score.candidates(outputs), attention - elsewhere, -4.0).flatten()[None], dim=1)[0]


def _todre(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    return _chosen(outputs, keep, among(outputs["projected"].flatten(0, 1)), _pivot(outputs, plan), torch.add)


def _todre_kcenter(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    return _chosen(outputs, keep, among(outputs["projected"].flatten(0, 1)), _pivot(outputs, plan), torch.maximum)


def _todre_reads(plan: MethodPlan) -> Reads:
    return reads("projected", "overview", attention=(plan.feature_layer,))


DIVPRUNE = Method(
    "divprune",
    "each token as far as possible from its nearest chosen one",
    "DivPrune, github.com/vbdi/divprune",
    _divprune,
    reads=lambda plan: reads("projected"),
    evidence="code read",
    differs="newline tokens take no part; nothing is chosen twice",
    cost="N^2 D + K N",
    steady=0.8,
)
TODRE = Method(
    "todre",
    "from the most attended token on, each one least alike to all chosen ones together",
    "ToDRE, second version",
    _todre,
    reads=_todre_reads,
    evidence="paper",
    differs="the first stage only: no tokens leave inside the language model",
    cost="N^2 D + K N",
    steady=0.4,
)
TODRE_KCENTER = Method(
    "todre-kcenter",
    "from the most attended token on, each one least alike to its nearest chosen one",
    "ToDRE, first version",
    _todre_kcenter,
    reads=_todre_reads,
    evidence="paper",
    differs="the first stage only: no tokens leave inside the language model",
    cost="N^2 D + K N",
    steady=0.4,
)
