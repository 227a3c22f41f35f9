"""ToMe: of two halves of the rows, those of the first that are most like one of the second join it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.tokens import select
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.inside.tower.rows import BlockRows, Rows, TowerCut, joined
from edgeprune.tokens.similar import cosine

if TYPE_CHECKING:
    from torch import Tensor


def sides(likeness: Tensor, rows: Rows, cut: TowerCut) -> Tensor:
    """likeness [A, B] of even and odd rows, the prefix counted, without pairs that may not join: the prefix stays apart from all, nothing
    joins padding, and padding of the first side leaves before everything else."""
    least = float("-inf")
    here, there = (torch.arange(side, rows.x.shape[0], 2) for side in (0, 1))
    apart = (here < cut.first)[:, None] | (there < cut.first)
    if rows.alive is not None:
        likeness = torch.where(rows.alive[there] > 0, likeness, least)
        likeness = torch.where((rows.alive[here] > 0)[:, None], likeness, float("inf"))
    return torch.where(apart, least, likeness)


def _step(rows: Rows, block: BlockRows, cut: TowerCut) -> Rows:
    """Rows come out as in the source: what is left of the even ones, then the odd ones."""
    keys = block.by_head(block.k).mean(dim=0)
    likeness = sides(cosine(keys[::2], keys[1::2]), rows, cut)
    value, partner = likeness.max(dim=1)
    less = rows.x.shape[0] - cut.first - cut.keep
    order = select.descending(value)
    left = select.ascending_values(order[less:]) if cut.first else order[less:]
    gone = order[:less]
    return joined(
        rows, both(2 * left, torch.arange(1, rows.x.shape[0], 2), cut), 2 * gone, left.shape[0] + partner[gone]
    )


def both(even: Tensor, odd: Tensor, cut: TowerCut) -> Tensor:
    """The rows of both sides, a prefix of two in front. So rows of the second side follow those of the first, but for the prefix."""
    if cut.first < 2:
        return torch.cat([even, odd])
    return torch.cat([even[:1], odd[:1], even[1:], odd[1:]])


TOME = TowerMethod(
    "tome",
    "the tokens most like another one merge with it, by two sides of alternating tokens",
    "ToMe, arXiv 2210.09461, repository facebookresearch/ToMe",
    evidence="code read",
    differs="at the given blocks only, where the source has one count for all of them",
    step=_step,
    sizes=True,
    least=lambda tokens: tokens - tokens // 2,
    steady=False,
)
