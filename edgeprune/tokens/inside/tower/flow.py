"""FlowCut's cuts: tokens leave after a block by how much information flows through them, smoothed from block to block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.tokens import select
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.inside.tower.rows import BlockRows, Rows, TowerCut, best, only

if TYPE_CHECKING:
    from torch import Tensor


def block_score(block: BlockRows, valid: Tensor) -> Tensor:
    """How much information flows to and from each token behind the class token in one block: [n - 1], -1 for padding.

    (a + b) * |mean over heads of v_j|_1, where a is the class token's attention and b the softmax of v_class . v_j (unscaled), both means
    over heads with sum 1 over the tokens that are no padding. valid [n - 1] 0/1
    """
    values = block.by_head(block.v)  # [H, n, d]
    a = block.class_attention()[:, 1:].mean(dim=0)
    similar = (values[:, :1] @ values[:, 1:].transpose(1, 2))[:, 0]  # [H, n - 1]
    b = torch.softmax(torch.where(valid > 0, similar, -1e9), dim=-1).mean(dim=0)
    size = values[:, 1:].mean(dim=0).abs().sum(dim=-1)
    return torch.where(valid > 0, (shares(a * valid) + shares(b * valid)) * size, -1.0)


def shares(values: Tensor) -> Tensor:
    """Scaled to the sum 1."""
    return values / torch.clamp(values.sum(), min=1e-12)


def _watch(rows: Rows, block: BlockRows, cut: TowerCut) -> Rows:
    """The score, smoothed over blocks; what stands at the prefix means nothing."""
    valid = torch.ones(rows.x.shape[0] - 1) if rows.alive is None else rows.alive[1:]
    score = torch.cat([torch.zeros(1), block_score(block, valid)])
    return rows._replace(score=score if rows.score is None else 0.5 * rows.score + 0.5 * score)


def _step(rows: Rows, block: BlockRows, cut: TowerCut) -> Rows:
    assert rows.score is not None
    return only(rows, select.ascending_values(best(rows, rows.score[cut.first :], cut)[0]))


FLOW = TowerMethod(
    "flowcut",
    "the tokens stay through which most information flows, by the method flowcut's own counts",
    "FlowCut, repository TungChintao/FlowCut",
    evidence="code read",
    step=_step,
    watch=_watch,
    site="after",
    class_token=True,
)
