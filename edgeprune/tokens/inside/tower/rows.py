"""Rows of a vision tower on their way through its blocks, and what every cut does with them: keep some, join others to them.

One tile at a time. Rows are the tower's prefix (class token, DeiT's distillation token), which always stays, and behind it the tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from edgeprune.later import torch
from edgeprune.tokens import select

if TYPE_CHECKING:
    from torch import Tensor


class Rows(NamedTuple):
    """n rows of a tile. What nobody asks for is None.

    x      [n, C]
    place  [n] int64: which row of the uncut tower it is; -1 for a row that stands for several and has no place
    alive  [n] 0/1; 0: padding, which leaves first
    size   [n]: how many tokens of the tile are in it; None: one in each
    score  [n]: what a method carries from block to block
    links  [n, n] or [m, n]: likewise, between rows, or from what was clustered to its clusters
    attention  [H, n, n]: what the block behind a cut uses in the place of its own
    owner  [R] int64: which of the n rows each row of the uncut tower went to; -1: gone
    """

    x: Tensor
    place: Tensor | None = None
    alive: Tensor | None = None
    size: Tensor | None = None
    score: Tensor | None = None
    links: Tensor | None = None
    attention: Tensor | None = None
    owner: Tensor | None = None


class BlockRows(NamedTuple):
    """What a block's attention makes of n rows: q, k, v [n, H * d] with biases; bias [n]: what is added to the logits of each key, the log
    of its size; None: nothing."""

    q: Tensor
    k: Tensor
    v: Tensor
    heads: int
    bias: Tensor | None = None

    def by_head(self, part: Tensor) -> Tensor:
        """[n, H * d] -> [H, n, d]."""
        return part.reshape(part.shape[0], self.heads, -1).transpose(0, 1)

    def class_attention(self) -> Tensor:
        """Of row 0 to every row, per head: [H, n]."""
        return self.attention(1)[:, 0]

    def attention(self, asking: int | None = None) -> Tensor:
        """Of the first `asking` rows, all by default, to every row: [H, asking, n]."""
        queries, keys = self.by_head(self.q[:asking]), self.by_head(self.k)
        logits = (queries @ keys.transpose(1, 2)) * keys.shape[2] ** -0.5
        return torch.softmax(logits if self.bias is None else logits + self.bias, dim=-1)


class TowerCut(NamedTuple):
    """One cut of one tile, all of it known at export.

    keep    tokens that stay; where the connector merges patches, groups of merge x merge of them
    number  which cut of the tower it is, from 0; block, blocks: where, of how many
    first   rows of the prefix
    grid    (rows, columns) of patches of the uncut tower
    merge   patches along a side of a group that leaves or stays whole; the rows of a group are neighbours
    """

    keep: int
    number: int
    first: int
    grid: tuple[int, int]
    merge: int
    settings: Mapping[str, float]
    block: int = 0
    blocks: int = 1


def importance(rows: Rows, block: BlockRows, cut: TowerCut) -> Tensor:
    """Class attention of the tokens, mean over heads; in a tower without class token what they receive of each other's: [n - first]."""
    return block.class_attention().mean(dim=0)[cut.first :] if cut.first else received(rows, block, cut)


def received(rows: Rows, block: BlockRows, cut: TowerCut) -> Tensor:
    """What each token receives of the tokens' attention, mean over heads and over those that ask, padding left out: [n - first]."""
    asking = block.attention()[:, cut.first :, cut.first :].mean(dim=0)
    if rows.alive is None:
        return asking.mean(dim=0)
    there = rows.alive[cut.first :]
    return (there @ asking) / torch.clamp(there.sum(), min=1.0)


def ranked(rows: Rows, score: Tensor, cut: TowerCut) -> Tensor:
    """Numbers of all tokens' rows [n - first], those with the highest score [n - first] first and padding last; equal scores fall to the
    earlier row. Groups stay together and count with their mean."""
    if rows.alive is not None:
        score = torch.where(rows.alive[cut.first :] > 0, score, float("-inf"))
    many = cut.merge**2
    if many == 1:
        return select.descending(score) + cut.first
    groups = select.descending(score.reshape(-1, many).mean(dim=1))
    return (groups[:, None] * many + torch.arange(many)).flatten() + cut.first


def best(rows: Rows, score: Tensor, cut: TowerCut) -> tuple[Tensor, Tensor]:
    """(rows that stay, the prefix first; rows that go), by score [n - first]."""
    order, many = ranked(rows, score, cut), cut.keep * cut.merge**2
    return torch.cat([torch.arange(cut.first), order[:many]]), order[many:]


def only(rows: Rows, index: Tensor) -> Rows:
    """The rows `index` [m]; the others leave."""
    place, alive, size, score = (
        None if part is None else part[index] for part in (rows.place, rows.alive, rows.size, rows.score)
    )
    return rows._replace(x=rows.x[index], place=place, alive=alive, size=size, score=score, owner=owners(rows, index))


def joined(rows: Rows, index: Tensor, gone: Tensor, onto: Tensor) -> Rows:
    """The rows `index` [m], each of the rows `gone` [g] joined to one of them, mean weighted by size; padding joins nothing.

    onto [g]: number in `index`
    """
    size = sizes(rows)
    weight = size[gone] if rows.alive is None else size[gone] * rows.alive[gone]
    members = (onto == torch.arange(index.shape[0])[:, None]).to(rows.x.dtype)  # [m, g]
    return merged(rows, index, gone, members * weight, onto)


def merged(rows: Rows, index: Tensor, gone: Tensor, weights: Tensor, onto: Tensor) -> Rows:
    """Likewise with weights [m, g] of the rows that go, which are sizes: those of a row that stays grow by them."""
    size = sizes(rows)[index]
    whole = size + weights.sum(dim=1)
    x = (rows.x[index] * size[:, None] + weights @ rows.x[gone]) / whole[:, None]
    alive = None if rows.alive is None else torch.maximum(rows.alive[index], (weights.sum(dim=1) > 0).to(x.dtype))
    return only(rows, index)._replace(x=x, size=whole, alive=alive, owner=owners(rows, index, gone, onto))


def sizes(rows: Rows) -> Tensor:
    """[n]"""
    return torch.ones(rows.x.shape[0]) if rows.size is None else rows.size


def owners(rows: Rows, index: Tensor, gone: Tensor | None = None, onto: Tensor | None = None) -> Tensor | None:
    """Which of the rows that are left each row of the uncut tower is in; rows of `gone` went to `onto`, padding nowhere."""
    if rows.owner is None:
        return None
    into = torch.full((rows.x.shape[0],), -1, dtype=torch.int64)
    if gone is not None and onto is not None:
        there = onto if rows.alive is None else torch.where(rows.alive[gone] > 0, onto, -1)
        into = into.index_copy(0, gone, there)
    into = into.index_copy(0, index, torch.arange(index.shape[0]))
    return torch.where(rows.owner >= 0, into[torch.clamp(rows.owner, min=0)], -1)
