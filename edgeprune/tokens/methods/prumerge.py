"""LLaVA-PruMerge and PruMerge+: the most attended tokens take in their neighbours, one token per tile takes what is pruned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine, score, select, weigh
from edgeprune.tokens.readings import Reads, Reduction, TowerOutputs, reads
from edgeprune.tokens.registry.method import Calibration, Method, Setting
from edgeprune.tokens.similar import among

if TYPE_CHECKING:
    from torch import Tensor

_NEIGHBOURS = Setting("neighbours", 32, "how many of the nearest tokens a kept one takes in", least=1, whole=True)
_SPREAD = Setting("spread", 0.75, "share of a tile's tokens that are evenly spaced", most=1)


def _spaced(real: Tensor, count: Tensor) -> Tensor:
    """count[t] evenly spaced candidates (real [T, N]) of each tile, numbers floor((i + 0.5) n / u): [T, N] bool.

    Number p is one of them if i = ceil((2 p u - n) / 2 n), the first i that reaches p, still gives p.
    """
    n, u, p = torch.clamp(real.sum(dim=1, keepdim=True), min=1), count[:, None], select.number(real)
    i = torch.clamp(torch.div(2 * p * u + n - 1, 2 * n, rounding_mode="floor"), min=0)
    reached = torch.div((2 * i + 1) * n, 2 * torch.clamp(u, min=1), rounding_mode="floor")
    return real & (i < u) & (reached == p)


def _takes_in(outputs: TowerOutputs, index: Tensor, layer: int, count: int) -> Tensor:
    """For every kept token 1 at itself and the attention of its `count` nearest other candidates of the tile by keys: [K, N]."""
    tokens = outputs.slot.shape[1]
    tile, token = torch.div(index, tokens, rounding_mode="floor"), index % tokens
    itself = torch.arange(tokens) == token[:, None]
    other = score.candidates(outputs).index_select(0, tile) & ~itself
    alike = among(outputs["keys", layer].flatten(2)).flatten(0, 1).index_select(0, index)
    near = select.descending(torch.where(other, alike, -2.0))[:, :count]
    nearest = torch.zeros_like(other).scatter(1, near, torch.ones_like(near, dtype=torch.bool)) & other
    return torch.where(itself, 1.0, torch.where(nearest, outputs["wide", layer].index_select(0, tile), 0.0))


def _reduced(outputs: TowerOutputs, keep: int, plan: MethodPlan, spread: float) -> Reduction:
    real, attention, tiles = score.candidates(outputs), outputs["wide", plan.last_layer], outputs.slot.shape[0]
    tokens, available = real.shape[1], real.sum(dim=1)
    counts = select.shares(weigh.equal(outputs), available, tokens, keep)
    even = _spaced(real, select.looked_up(counts, tokens, lambda k: select.part(max(k - 1, 0), spread)))
    ranked = select.regrouped(select.order(attention, outputs.slot), torch.where(even, 0, 1))
    index = select.by_order(ranked, weigh.equal(outputs), outputs.slot, keep)

    row = torch.clamp(index, min=0)
    tile = torch.div(row, tokens, rounding_mode="floor")
    # The token of rank k_t - 1 is the heaviest pruned one: it stands for all that are pruned. A tile that keeps everything has none.
    rank = select.inverse(ranked)
    last = torch.where(counts < available, counts - 1, tokens)[:, None]
    pruned = torch.where(real & (rank >= last), attention, 0.0)
    rest = (rank == last).flatten()[row][:, None]
    itself = torch.arange(tokens) == (row % tokens)[:, None]
    takes = _takes_in(outputs, row, plan.last_layer, int(_NEIGHBOURS(plan)))
    rows = torch.where(rest, pruned.index_select(0, tile), takes)
    rows = torch.where((counts < available)[tile][:, None], rows, itself.to(torch.float32))
    return combine.merge(index, combine.inside(row, rows, tiles), outputs.slot)


def _prumerge(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    return _reduced(outputs, keep, plan, 0.0)


def _prumerge_plus(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    return _reduced(outputs, keep, plan, _SPREAD(plan))


def _reads(plan: MethodPlan) -> Reads:
    return reads(wide=(plan.last_layer,), keys=(plan.last_layer,))


def _measure(outputs: TowerOutputs, plan: MethodPlan) -> dict[str, float]:
    """What the source would keep: the share of outliers (above Q3 + 1.5 IQR), and how many tokens of a tile by rank and by stride."""
    real = score.candidates(outputs)
    tiles = [outputs["wide", plan.last_layer][t][real[t]] for t in range(real.shape[0]) if bool(real[t].any())]
    found = [_outliers(attention) for attention in tiles]
    means = [sum(values) / max(1, len(tiles)) for values in zip(*found, strict=True)]
    return dict(zip(("outlier_share", "ranked", "spaced"), means, strict=True))


def _outliers(attention: Tensor) -> tuple[float, float, float]:
    """Share of outliers among the candidates [n] of a tile, their number, and how many PruMerge+ adds by its stride."""
    n, low, high = len(attention), *torch.quantile(attention, torch.tensor([0.25, 0.75])).tolist()
    share = float((attention > high + 1.5 * (high - low)).float().mean())
    ranked = int(n * share)
    if ranked == 0:
        return share, 0.0, 0.0
    taken = set(select.descending(attention)[:ranked].tolist())
    spaced = [i for i in range(0, n - 1, max(1, int(int(1 / share) / 3))) if i not in taken]
    return share, float(ranked), float(len(spaced))


def _settle_spread(measured: Sequence[Mapping[str, float]], plan: MethodPlan) -> dict[str, float]:
    ranked, spaced = (sum(one[name] for one in measured) for name in ("ranked", "spaced"))
    return {"spread": round(spaced / (ranked + spaced), 4)} if ranked else {}


PRUMERGE = Method(
    "prumerge",
    "the most attended tokens take in their nearest by keys; one token per tile takes what is pruned",
    "LLaVA-PruMerge, github.com/42Shawn/LLaVA-PruMerge",
    _prumerge,
    reads=_reads,
    evidence="code read",
    differs="K is given, not drawn from quartiles; the order is ascending; the last token stands where its heaviest part stood",
    cost="N^2 C + K N (log N + C)",
    steady=0.8,
    settings=(_NEIGHBOURS,),
    calibration=Calibration(
        "the share of tokens the source would keep (reported)", _measure, lambda measured, plan: {}
    ),
)
PRUMERGE_PLUS = Method(
    "prumerge+",
    "PruMerge with evenly spaced tokens besides the most attended ones",
    "LLaVA-PruMerge, github.com/42Shawn/LLaVA-PruMerge",
    _prumerge_plus,
    reads=_reads,
    evidence="code read",
    differs="as prumerge; evenly spaced tokens are chosen first, so none is counted twice",
    cost="N^2 C + K N (log N + C)",
    steady=0.8,
    settings=(_NEIGHBOURS, _SPREAD),
    calibration=Calibration(
        "the share of tokens the source would keep (reported), and how many of them evenly spaced",
        _measure,
        _settle_spread,
    ),
)
