"""Choose exactly K tokens. The only stage that knows K.

Every function returns flat indices [K], ascending by slot, with -1 at the end when a picture has fewer than K candidates.
Only stable sorts are used: equal scores fall to the lower index, in eager torch and in ONNX (TopK's documented rule) alike.
"""

from __future__ import annotations

import torch
from torch import Tensor


def by_priority(scores: Tensor, weights: Tensor, slot: Tensor, keep: int) -> Tensor:
    """Tiles share the budget by Sainte-Lague apportionment; inside a tile the best scores win.

    scores [T, N], weights [T] relative, slot [T, N]; returns [keep]. The token of rank r in tile t has priority w_t / (r + 0.5) and
    one global top-K takes them: counts follow the weights, nothing is lost to rounding, and a full tile hands its surplus on.
    """
    tokens = scores.shape[1]
    order = _descending(torch.where(slot >= 0, scores, float("-inf")))  # [T, N], best first, padding last
    rank = torch.arange(tokens)
    candidates = (slot >= 0).sum(dim=1, keepdim=True)  # [T, 1]
    priority = torch.where(rank < candidates, weights[:, None] / (rank + 0.5), -1.0)  # [T, N], by rank
    chosen = _descending(priority.flatten())[:keep]
    token = order.flatten()[chosen] + torch.div(chosen, tokens, rounding_mode="floor") * tokens
    return in_sequence(token, slot)


def by_score(scores: Tensor, slot: Tensor, keep: int) -> Tensor:
    """The K best tokens of all tiles. scores [T, N], slot [T, N]; returns [keep]."""
    best = torch.where(slot >= 0, scores, float("-inf")).flatten()
    return in_sequence(_descending(best)[:keep], slot)


def by_stride(slot: Tensor, keep: int) -> Tensor:
    """Evenly spaced tokens of the packed sequence: of M candidates in slot order, number floor((i + 0.5) * M / K)."""
    sequence = _ascending(_last_if_padding(slot.flatten()))
    candidates = (slot >= 0).sum()
    i = torch.arange(keep)
    spread = torch.div((2 * i + 1) * candidates, 2 * keep, rounding_mode="floor")
    return in_sequence(sequence[torch.where(candidates > keep, spread, i)], slot)


def in_sequence(token: Tensor, slot: Tensor) -> Tensor:
    """Order flat indices [K] by slot; padding becomes -1 and goes last."""
    place = slot.flatten()[token]
    order = _ascending(_last_if_padding(place))
    return torch.where(place[order] >= 0, token[order], -1)


def _last_if_padding(slot: Tensor) -> Tensor:
    return torch.where(slot >= 0, slot, torch.iinfo(torch.int32).max)


def _descending(values: Tensor) -> Tensor:
    return torch.sort(values, dim=-1, descending=True, stable=True).indices


def _ascending(values: Tensor) -> Tensor:
    return torch.sort(values, dim=-1, stable=True).indices
