"""MMTok: tokens that together cover the question and the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine, greedy, score, select, weigh
from edgeprune.tokens.readings import Reduction, TowerOutputs, reads
from edgeprune.tokens.registry.method import Method
from edgeprune.tokens.similar import among, cosine

if TYPE_CHECKING:
    from torch import Tensor

_TEXT_TEMPERATURE, _VISION_TEMPERATURE, _VISION_WEIGHT = 0.02, 0.2, 0.5


def _coverage(outputs: TowerOutputs) -> Tensor:
    """[T, N, M + N]: how well each token covers each question row and each token of its tile (C of docs/methods.md, transposed)."""
    real = score.candidates(outputs)
    text = score.softmax(cosine(outputs["projected"], outputs["question"]) / _TEXT_TEMPERATURE, real[:, :, None], 1)
    vision = score.softmax(among(outputs.features) / _VISION_TEMPERATURE, real[:, :, None], 1)
    row = torch.where(real, _VISION_WEIGHT / torch.clamp(real.sum(dim=1, keepdim=True), min=1), 0.0)
    return torch.cat([text * outputs["question_weight"], vision * row[:, None]], dim=2)


def _mmtok(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    rounds = min(outputs.slot.shape[1], keep)
    turn = greedy.covering(_coverage(outputs), score.candidates(outputs), rounds)
    return combine.drop(select.by_priority(-turn.to(torch.float32), weigh.equal(outputs), outputs.slot, keep))


MMTOK = Method(
    "mmtok",
    "tokens that together cover the question's words and the picture",
    "MMTok, github.com/Ironieser/MMTok",
    _mmtok,
    reads=lambda plan: reads("question", "projected"),
    evidence="code read",
    differs="the source also drops stop words and boiler-plate from the question",
    cost="N^2 C + K N^2",
    steady=0.8,
)
