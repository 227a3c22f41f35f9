"""EViT: the tokens with the highest class attention stay, and one fused token stands for the others."""

from __future__ import annotations

from edgeprune.later import torch
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.inside.tower.rows import BlockRows, Rows, TowerCut, best, only, owners


def _step(rows: Rows, block: BlockRows, cut: TowerCut) -> Rows:
    """The fused row is the last one: the sum of what goes, weighted by its attention and not normalised."""
    score = block.class_attention().mean(dim=0)
    index, gone = best(rows, score[cut.first :], cut)
    weight = score[gone] if rows.alive is None else score[gone] * rows.alive[gone]
    stay = only(rows, index)
    return stay._replace(
        x=torch.cat([stay.x, weight[None] @ rows.x[gone]]),
        place=None if stay.place is None else torch.cat([stay.place, torch.full((1,), -1)]),
        alive=None if stay.alive is None else torch.cat([stay.alive, torch.ones(1)]),
        owner=owners(rows, index, gone, torch.full(gone.shape, index.shape[0])),
    )


EVIT = TowerMethod(
    "evit",
    "the tokens with the highest attention of the class token stay, and one fused token for all that go",
    "EViT, arXiv 2202.07800, repository youweiliang/evit",
    evidence="code read",
    differs="none; as in the source, the fused token counts as one of the tokens that arrive at the next cut",
    step=_step,
    class_token=True,
    extra=1,
)
