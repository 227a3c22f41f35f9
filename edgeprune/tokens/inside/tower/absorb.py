"""absorb: the tokens with the highest class attention stay, and each of the others joins the one whose keys are most like its own."""

from __future__ import annotations

from edgeprune.later import torch
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.inside.tower.rows import BlockRows, Rows, TowerCut, best, importance, joined
from edgeprune.tokens.similar import unit


def _step(rows: Rows, block: BlockRows, cut: TowerCut) -> Rows:
    """Likeness is the cosine of keys over all heads; nothing joins the prefix."""
    index, gone = best(rows, importance(rows, block, cut), cut)
    like = block.k[gone] @ unit(block.k[index[cut.first :]]).T  # the length of a row that goes decides nothing
    return joined(rows, index, gone, torch.argmax(like, dim=1) + cut.first)


ABSORB = TowerMethod(
    "absorb",
    "the tokens with the highest class attention (without class token: attention received) stay, the others join the most similar one",
    "own: EViT's ranking with ToMe's merging",
    step=_step,
    sizes=True,
    steady=False,
)
