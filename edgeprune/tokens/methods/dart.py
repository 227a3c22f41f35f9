"""DART: a few pivots, then the tokens that are least like each of them. Embeddings are all it reads."""

from __future__ import annotations

from edgeprune.later import torch
from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine, score, select
from edgeprune.tokens.readings import Reduction, TowerOutputs, reads
from edgeprune.tokens.registry.method import Method, Setting
from edgeprune.tokens.similar import cosine

_PIVOTS = Setting(
    "pivots", 8, "how many tokens with the largest L1 norm the others are compared to", least=1, whole=True
)


def _dart(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    rows, candidate = outputs["projected"].flatten(0, 1), score.candidates(outputs).flatten()
    pivots = min(int(_PIVOTS(plan)), keep)
    norm = torch.where(candidate, rows.abs().sum(dim=1), -1.0)
    pivot = select.descending(norm)[:pivots]
    place = torch.arange(rows.shape[0])
    chosen = candidate & (place[:, None] == pivot).any(dim=1)
    alike = cosine(rows.index_select(0, pivot), rows)  # [pivots, T * N]
    rest = keep - pivots
    for i in range(pivots):  # the pivots share what is left as evenly as whole numbers allow
        share = (i + 1) * rest // pivots - i * rest // pivots
        free = candidate & ~chosen
        rank = select.inverse(select.ascending(torch.where(free, alike[i], 4.0)))
        chosen = chosen | (free & (rank < share))
    return combine.drop(select.exactly(chosen.view(outputs.slot.shape), outputs.slot, keep))


DART = Method(
    "dart",
    "a few tokens of the largest norm, and those that are least like each of them",
    "DART, arXiv 2502.11494",
    _dart,
    reads=lambda plan: reads("projected"),
    evidence="paper",
    differs="on projected tokens at the encoder output, as TensorRT Edge-LLM has it, not inside the language model; no pivots of "
    "the question",
    cost="P N D",
    steady=0.8,
    settings=(_PIVOTS,),
)
