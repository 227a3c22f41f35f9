"""VFlowOpt, first stage: attention cast by sink tokens ranks; what is pruned is recycled into one token per cell of a grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine, places, score, select
from edgeprune.tokens.readings import Reduction, TowerOutputs, reads
from edgeprune.tokens.registry.method import Calibration, Method, Setting

if TYPE_CHECKING:
    from torch import Tensor

_SINKS = Setting(
    "sinks", 4, "how many tokens of each tile that receive the most attention judge the others", least=1, whole=True
)
_CELL = Setting("cell", 12, "side of a cell in tokens", least=1)
_ENTROPY = Setting("entropy_weight", 0, "weight of the patches' grey-value entropy", least=-1, most=1)
_THRESHOLD = Setting(
    "threshold",
    34.76,
    "calibration only: a sink receives this many times the mean (released for a quarter of the tokens)",
)
_NOWHERE = 2**31 - 1  # of int32


def _received(outputs: TowerOutputs, plan: MethodPlan) -> Tensor:
    """Attention that every token receives from the candidates of its tile, mean over them: [T, N]."""
    return score.mean(score.between(outputs, plan.feature_layer), score.candidates(outputs)[:, :, None], 1)[:, 0]


def importance(outputs: TowerOutputs, plan: MethodPlan) -> Tensor:
    """Attention that every token receives from the sinks, and its entropy: [T, N]."""
    real = score.candidates(outputs)
    sink = real & (select.ranks(_received(outputs, plan), outputs.slot) < int(_SINKS(plan)))
    importance = score.mean(score.between(outputs, plan.feature_layer), sink[:, :, None], 1)[:, 0]
    if _ENTROPY(plan) == 0:
        return importance
    return importance + _ENTROPY(plan) * score.softmax(outputs["entropy"], real, 1)


def _heads(ranked: Tensor, cell: Tensor) -> Tensor:
    """The best-ranked token of every cell: [1, n] bool. ranked [1, n]; cell [1, n], _NOWHERE for tokens that have none."""
    by_cell = select.regrouped(ranked, cell)
    along = torch.gather(cell, 1, by_cell)
    starts = torch.nn.functional.pad(along[:, :-1], (1, 0), value=-1) != along
    return torch.gather(starts & (along < _NOWHERE), 1, select.inverse(by_cell))


def _vflowopt(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    size, slot = Fraction(str(_CELL(plan))), outputs.slot.view(1, -1)  # one list of all tiles' tokens
    worth, cell = importance(outputs, plan).view(1, -1), places.cells(outputs, size).view(1, -1)
    real = slot >= 0
    recycled = select.looked_up(real.sum(), slot.numel(), lambda a: min(math.floor(a / size**2), keep))
    ranked = select.order(worth, slot)
    best = select.inverse(ranked) < keep - recycled
    cell = torch.where(real & ~best, cell, _NOWHERE)
    head = _heads(ranked, cell)
    ranked = select.regrouped(ranked, torch.where(best, 0, torch.where(head, 1, torch.where(real, 2, 3))))
    index = select.in_sequence(ranked[0, :keep], slot)

    as_it_is = ~head & (select.inverse(ranked) < keep)
    row = torch.clamp(index, min=0)
    row_cell = torch.where(head[0, row], cell[0, row], -1)
    member = combine.joined(row_cell, torch.where(as_it_is | (cell == _NOWHERE), -2, cell)[0])
    return combine.merge(index, combine.mean_or_itself(member * worth, index), slot)


def _measure(outputs: TowerOutputs, plan: MethodPlan) -> dict[str, float]:
    """How many tokens of a tile the source would call sinks: those that receive more than `threshold` times the mean."""
    real, received = score.candidates(outputs), _received(outputs, plan)
    sinks = real & (received > _THRESHOLD(plan) * score.mean(received, real, 1))
    return {"sinks": float(sinks.sum()) / max(1, int(real.any(dim=1).sum()))}


def _settle(measured: Sequence[Mapping[str, float]], plan: MethodPlan) -> dict[str, float]:
    return {"sinks": max(1, round(sum(one["sinks"] for one in measured) / len(measured)))}


VFLOWOPT = Method(
    "vflowopt",
    "attention cast by sink tokens ranks; pruned tokens are averaged into one per cell of a coarse grid",
    "VFlowOpt, github.com/sihany077/VFlowOpt",
    _vflowopt,
    reads=lambda plan: reads(*(("entropy",) if _ENTROPY(plan) else ()), map=(plan.feature_layer,)),
    evidence="code read",
    differs="the first stage only; sinks are counted, not thresholded; cells share exactly what is left",
    cost="N^2 + K N C",
    steady=0.8,
    settings=(_SINKS, _CELL, _ENTROPY, _THRESHOLD),
    calibration=Calibration("how many sinks the source's threshold finds in a tile", _measure, _settle),
)
