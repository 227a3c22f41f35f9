"""Zero-TPrune: tokens leave that are like a more important one, then those that a walk along the attention map meets least."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.tokens import select
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.inside.tower.rows import BlockRows, Rows, TowerCut, only
from edgeprune.tokens.similar import cosine

if TYPE_CHECKING:
    from torch import Tensor

_LEAST, _MOST = 0.01, 0.7  # variance over rows of a head's score that counts


def rounds_of(cut: TowerCut) -> int:
    """Of the walk: many in the first three blocks, one in the last three."""
    if cut.block < 3:
        return 32
    return 1 if cut.block >= cut.blocks - 3 else 8


def page_rank(maps: Tensor, first: int, rounds: int) -> Tensor:
    """maps [H, n, n] -> score [n], mean about 1: s = A^T s for some rounds, then the root mean square over heads that tell rows apart."""
    n = maps.shape[1]
    start = torch.ones(n)
    if first:
        start = torch.cat([torch.full((1,), math.sqrt(n)), start[1:]])
    score = (start * n / start.sum()).expand(maps.shape[0], 1, n)
    for _ in range(rounds):
        score = score @ maps
    score = score[:, 0]
    variance = ((score - score.mean(dim=1, keepdim=True)) ** 2).mean(dim=1)
    passing = ((variance >= _LEAST) & (variance <= _MOST)).to(score.dtype)
    counted = torch.where(passing.sum() > 0, passing, torch.ones(maps.shape[0]))
    return torch.sqrt((score**2 * counted[:, None]).sum(dim=0) / counted.sum())


def _step(rows: Rows, block: BlockRows, cut: TowerCut) -> Rows:
    """Half of what leaves, rounded down, leaves for its likeness; the prefix always stays."""
    first, maps = cut.first, block.attention()
    less = rows.x.shape[0] - first - cut.keep
    alike = min(less // 2, (rows.x.shape[0] - first) // 2)
    ranked = _descending(rows, page_rank(maps, first, 1), torch.arange(first, rows.x.shape[0]))
    half = ranked.shape[0] - ranked.shape[0] // 2
    more, fewer = ranked[:half], ranked[half:]
    likeness = cosine(block.k[fewer], block.k[more]).amax(dim=1)
    if rows.alive is not None:
        likeness = torch.where(rows.alive[fewer] > 0, likeness, 2.0)  # padding leaves first
    numbered = select.ascending(fewer)  # equal likeness falls to the earlier row
    stay = fewer[numbered][select.descending(likeness[numbered])[alike:]]
    there = torch.cat([torch.arange(first), select.ascending_values(torch.cat([more, stay]))])
    left = maps[:, there][:, :, there]
    left = left / left.sum(dim=2, keepdim=True)
    score = torch.zeros(rows.x.shape[0]).index_copy(0, there, page_rank(left, first, rounds_of(cut)))
    order = _descending(rows, score, there[first:])
    return only(rows, torch.cat([torch.arange(first), order[: cut.keep]]))


def _descending(rows: Rows, score: Tensor, numbers: Tensor) -> Tensor:
    """Some rows by falling score [n], padding last."""
    some = score[numbers]
    if rows.alive is not None:
        some = torch.where(rows.alive[numbers] > 0, some, -1.0)
    return numbers[select.descending(some)]


ZERO_TPRUNE = TowerMethod(
    "zero-tprune",
    "tokens like a more important one leave, then those that a walk along the attention map meets least",
    "Zero-TPrune, arXiv 2305.17328; no official code",
    evidence="reconstruction",
    differs="half of what leaves at a cut leaves for its likeness, where the paper searches both numbers; scores have the mean 1, without "
    "which its bounds of variance mean nothing",
    step=_step,
    site="after",
    steady=False,
)
