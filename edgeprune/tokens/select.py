"""Choose exactly K tokens. The only stage that knows K.

Selections are flat indices [K], ascending by slot, with -1 at the end when a picture has fewer than K candidates.
Only stable sorts are used: equal scores fall to the lower index, in eager torch and in ONNX (TopK's documented rule) alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

from edgeprune.later import torch

if TYPE_CHECKING:
    from torch import Tensor


_LAST = 2**31 - 1  # of int32


def by_priority(scores: Tensor, weights: Tensor, slot: Tensor, keep: int) -> Tensor:
    """Tiles share the budget by Sainte-Lague apportionment; inside a tile the best scores win.

    scores [T, N], weights [T] relative, slot [T, N]; returns [keep].
    """
    return by_order(order(scores, slot), weights, slot, keep)


def by_order(ranked: Tensor, weights: Tensor, slot: Tensor, keep: int) -> Tensor:
    """The same from tokens already ranked: `ranked` [T, N] holds each tile's tokens, best first, padding last."""
    tokens = ranked.shape[1]
    chosen = _apportioned(weights, (slot >= 0).sum(dim=1), tokens, keep)
    token = ranked.flatten()[chosen] + torch.div(chosen, tokens, rounding_mode="floor") * tokens
    return in_sequence(token, slot)


def shares(weights: Tensor, available: Tensor, tokens: int, keep: int) -> Tensor:
    """How many of `keep` each tile gets when tile t has available[t] of at most `tokens` to give: [T] int64.

    Never more than it has; less than `keep` in all only where there is no more.
    """
    chosen = _apportioned(weights, available, tokens, keep)
    tile = torch.div(chosen, tokens, rounding_mode="floor")
    return torch.minimum((tile[:, None] == torch.arange(available.shape[0])).sum(dim=0), available)


def _apportioned(weights: Tensor, available: Tensor, tokens: int, keep: int) -> Tensor:
    """Places [keep] as t * tokens + rank. The token of rank r in tile t has priority w_t / (r + 0.5) and one global top-K takes them:
    counts follow the weights, nothing is lost to rounding, and a full tile hands its surplus on."""
    rank = torch.arange(tokens)
    priority = torch.where(rank < available[:, None], weights[:, None] / (rank + 0.5), -1.0)  # [T, N], by rank
    return descending(priority.flatten())[:keep]


def by_score(scores: Tensor, slot: Tensor, keep: int) -> Tensor:
    """The K best tokens of all tiles. scores [T, N], slot [T, N]; returns [keep]."""
    best = torch.where(slot >= 0, scores, float("-inf")).flatten()
    return in_sequence(descending(best)[:keep], slot)


def by_stride(slot: Tensor, keep: int) -> Tensor:
    """Evenly spaced tokens of the packed sequence: of M candidates in slot order, number floor((i + 0.5) * M / K)."""
    sequence = ascending(_last_if_padding(slot.flatten()))
    candidates = (slot >= 0).sum()
    i = torch.arange(keep)
    return in_sequence(sequence[torch.where(candidates > keep, spaced(candidates, keep), i)], slot)


def spaced(count: Tensor, keep: int) -> Tensor:
    """Numbers floor((i + 0.5) * count / keep) for i = 0 .. keep - 1."""
    return torch.div((2 * torch.arange(keep) + 1) * count, 2 * keep, rounding_mode="floor")


def exactly(kept: Tensor, slot: Tensor, keep: int) -> Tensor:
    """The tokens of a mask [T, N] bool that holds `keep` candidates, or all there are."""
    place, token = torch.sort(torch.where(kept & (slot >= 0), slot, _LAST).flatten(), stable=True)
    return torch.where(place < _LAST, token, -1)[:keep]


def in_sequence(token: Tensor, slot: Tensor) -> Tensor:
    """Order flat indices [K] by slot; padding becomes -1 and goes last."""
    place = slot.flatten()[token]
    by_slot = ascending(_last_if_padding(place))
    return torch.where(place[by_slot] >= 0, token[by_slot], -1)


def order(scores: Tensor, slot: Tensor) -> Tensor:
    """Tokens of each tile, best first, padding last: [T, N]."""
    return descending(torch.where(slot >= 0, scores, float("-inf")))


def ranks(scores: Tensor, slot: Tensor) -> Tensor:
    """Place of each token in its tile's order, 0 for the best: [T, N]."""
    return inverse(order(scores, slot))


def best(scores: Tensor, slot: Tensor, counts: Tensor) -> Tensor:
    """The counts[t] best tokens of every tile, as a mask [T, N]; counts [T] never exceeds the tile's candidates."""
    return ranks(scores, slot) < counts[:, None]


def regrouped(ranked: Tensor, group: Tensor) -> Tensor:
    """An order [T, N] parted by the group [T, N] of each token, lowest group first; inside a group it stays as it was."""
    return torch.gather(ranked, 1, ascending(torch.gather(group, 1, ranked)))


def number(mask: Tensor) -> Tensor:
    """Running number of every member of a mask along the last axis, from 0; what stands at others means nothing."""
    return torch.cumsum(mask.to(torch.int64), dim=-1) - 1


def looked_up(count: Tensor, most: int, rule: Callable[[int], int]) -> Tensor:
    """rule(count) for a tensor of counts 0 .. most, in Python's exact arithmetic: a constant table, so no rounding can differ."""
    table = torch.tensor([rule(i) for i in range(most + 1)])
    return table[count.reshape(-1)].reshape(count.shape)  # tracers before torch 2.11 take a single index for a number


def part(count: int, share: float) -> int:
    """floor(count * share), the share taken as it is written: 0.3 is 3/10 and not the binary number next to it."""
    return math.floor(count * Fraction(str(share)))


def inverse(permutation: Tensor) -> Tensor:
    return ascending(permutation)


def ascending_values(values: Tensor) -> Tensor:
    return torch.sort(values, dim=-1, stable=True).values


def descending(values: Tensor) -> Tensor:
    return torch.sort(values, dim=-1, descending=True, stable=True).indices


def ascending(values: Tensor) -> Tensor:
    return torch.sort(values, dim=-1, stable=True).indices


def _last_if_padding(slot: Tensor) -> Tensor:
    return torch.where(slot >= 0, slot, _LAST)
