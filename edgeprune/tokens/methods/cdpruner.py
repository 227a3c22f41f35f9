"""CDPruner: a determinantal point process over tokens, conditioned on the question."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine, greedy, score, select, weigh
from edgeprune.tokens.readings import Reduction, TowerOutputs, reads
from edgeprune.tokens.registry.method import Method, Setting
from edgeprune.tokens.similar import among

if TYPE_CHECKING:
    from torch import Tensor

_SIGN = Setting(
    "sign", 1, "-1 prefers tokens unlike the question, as the source does with CLIP's text tower", least=-1, most=1
)


def _quality(outputs: TowerOutputs, sign: float) -> Tensor:
    """Relevance scaled to [1e-6, 1 + 1e-6] over the picture, 1 where it tells nothing apart, 0 for padding: [T, N]."""
    real, relevance = score.candidates(outputs), sign * score.relevance(outputs)
    least = torch.where(real, relevance, torch.inf).flatten().amin(dim=0)
    span = torch.where(real, relevance, -torch.inf).flatten().amax(dim=0) - least
    scaled = torch.where(span > 0, (relevance - least + 1e-6) / torch.where(span > 0, span, 1.0), 1.0)
    return torch.where(real, scaled, 0.0)


def _cdpruner(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    real, quality = score.candidates(outputs), _quality(outputs, _SIGN(plan))
    kernel = quality[:, :, None] * among(outputs["projected"]) * quality[:, None, :]
    # A token's likeness to itself is 1, and not what rounding makes of it: without a question all tokens begin as equals.
    itself = torch.where((outputs["projected"] != 0).any(dim=2), quality * quality, 0.0)
    turn = greedy.determinant(kernel, itself, real, min(outputs.slot.shape[1], keep))
    return combine.drop(select.by_priority(-turn.to(torch.float32), weigh.equal(outputs), outputs.slot, keep))


CDPRUNER = Method(
    "cdpruner",
    "a determinantal point process: relevant to the question and unlike one another",
    "CDPruner, github.com/Theia-4869/CDPruner",
    _cdpruner,
    reads=lambda plan: reads("question", "projected"),
    evidence="code read",
    differs="relevance from the language model's embeddings (sign 1) instead of CLIP's text tower (sign -1)",
    cost="N^2 D + K^2 N",
    steady=0.8,
    settings=(_SIGN,),
)
