"""Attention between patches ranks tokens: FoPru and HiPrune."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine, places, score, select, weigh
from edgeprune.tokens.readings import Reduction, TowerOutputs, reads
from edgeprune.tokens.registry.method import Calibration, Method, Setting

if TYPE_CHECKING:
    from torch import Tensor

_SIDE = Setting(
    "side",
    0,
    "1: attention received is significant; 2: attention cast; 0: what varies more in the tile",
    most=2,
    whole=True,
)
_OBJECT = Setting(
    "object_layer", -1, "layer that shows objects; -1: layer 8 of 24, or what corresponds to it", least=-1, whole=True
)
_ANCHORS = Setting("alpha_anchor", 0.1, "share of the budget for anchors and their four neighbours", most=1)


def _sides(outputs: TowerOutputs, plan: MethodPlan) -> tuple[Tensor, Tensor, Tensor]:
    """Attention received and cast by every token, [T, N] each, and whether received varies at least as much, [T, 1]."""
    real, attention = score.candidates(outputs), score.between(outputs, plan.feature_layer)
    received = score.mean(attention, real[:, :, None], 1)[:, 0]
    cast = score.mean(attention, real[:, None, :], 2)[:, :, 0]
    return received, cast, score.variance(received, real) >= score.variance(cast, real)


def _significance(outputs: TowerOutputs, plan: MethodPlan) -> Tensor:
    received, cast, wider = _sides(outputs, plan)
    side = int(_SIDE(plan))
    return torch.where(wider, received, cast) if side == 0 else (received, cast)[side - 1]


def _fopru(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    return combine.drop(select.by_priority(_significance(outputs, plan), weigh.equal(outputs), outputs.slot, keep))


def _fopru_row(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    row, side = places.in_tile(outputs.geometry)[0], outputs.geometry.side
    significance = _significance(outputs, plan)
    in_row = score.candidates(outputs)[:, None] & (row == torch.arange(side)[:, None])  # [T, side, N]
    rows = score.mean(significance[:, None], in_row, 2)[:, :, 0]
    rows = torch.where(in_row.any(dim=2), rows, float("-inf"))
    row_rank = select.inverse(select.descending(rows))[:, row]  # [T, N]
    group = torch.where(outputs.slot >= 0, row_rank, side)
    ranked = select.regrouped(select.order(significance, outputs.slot), group)
    return combine.drop(select.by_order(ranked, weigh.equal(outputs), outputs.slot, keep))


def _object_layer(plan: MethodPlan) -> int:
    chosen = int(_OBJECT(plan))
    return chosen if chosen >= 0 else max(0, round((plan.feature_layer + 1) * 9 / 23) - 1)


def _hiprune(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    real, tokens = score.candidates(outputs), outputs.slot.shape[1]
    counts = select.shares(weigh.equal(outputs), real.sum(dim=1), tokens, keep)
    share = Fraction(str(_ANCHORS(plan)))
    anchors = select.looked_up(counts, tokens, lambda k: min(k, round(k * share / 5)))
    # As in the source, the means run over all queries: what padding attends to was computed with the rest.
    anchor = select.best(outputs["map", _object_layer(plan)].mean(dim=1), outputs.slot, anchors)
    first = anchor | places.beside(anchor, outputs.geometry)
    scores = outputs["map", plan.feature_layer].mean(dim=1) + torch.where(first, 2.0, 0.0)
    return combine.drop(select.by_priority(scores, weigh.equal(outputs), outputs.slot, keep))


def _measure_sides(outputs: TowerOutputs, plan: MethodPlan) -> dict[str, float]:
    """In how many tiles attention received varies at least as much as attention cast."""
    wider, real = _sides(outputs, plan)[2][:, 0], score.candidates(outputs).any(dim=1)
    return {"tiles": float(real.sum()), "received_wider": float((wider & real).sum())}


def _settle_side(measured: Sequence[Mapping[str, float]], plan: MethodPlan) -> dict[str, float]:
    received = sum(one["received_wider"] for one in measured)
    return {"side": 1 if 2 * received >= sum(one["tiles"] for one in measured) else 2}


_CALIBRATION = Calibration(
    "which of attention received and cast varies more in most tiles", _measure_sides, _settle_side
)


def _received(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    scores = outputs["received", plan.feature_layer]
    return combine.drop(select.by_priority(scores, weigh.equal(outputs), outputs.slot, keep))


RECEIVED = Method(
    "received",
    "attention received from the tile's tokens ranks them; needs no class token",
    "what VisPruner's and VisionZip's authors use where there is no class token",
    _received,
    reads=lambda plan: reads(received=(plan.feature_layer,)),
    evidence="own",
    differs="padding asks like any other token",
    steady=0.8,
)
FOPRU = Method(
    "fopru",
    "attention received from (or cast on) the other patches ranks tokens",
    "FoPru",
    _fopru,
    reads=lambda plan: reads(map=(plan.feature_layer,)),
    evidence="reconstruction",
    differs="known from the abstract and a review only",
    cost="N^2",
    steady=0.8,
    settings=(_SIDE,),
    calibration=_CALIBRATION,
)
FOPRU_ROW = Method(
    "fopru-row",
    "whole patch rows with the highest attention received (or cast)",
    "FoPru",
    _fopru_row,
    reads=lambda plan: reads(map=(plan.feature_layer,)),
    evidence="reconstruction",
    differs="known from the abstract and a review only; the last row of a tile is cut to keep exactly K",
    cost="N^2",
    steady=0.8,
    settings=(_SIDE,),
    calibration=_CALIBRATION,
)
HIPRUNE = Method(
    "hiprune",
    "anchors of a middle layer with their neighbours, then attention received in the feature layer",
    "HiPrune, github.com/Danielement321/HiPrune",
    _hiprune,
    reads=lambda plan: reads(map=tuple(sorted({_object_layer(plan), plan.feature_layer}))),
    evidence="code read",
    differs="padding gets nothing",
    cost="N^2",
    steady=0.8,
    settings=(_OBJECT, _ANCHORS),
)
