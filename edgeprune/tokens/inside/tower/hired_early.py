"""HiRED's ranking, moved into the tower: tokens leave each tile by the class token's attention in an early block."""

from __future__ import annotations

from edgeprune.tokens import select
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.inside.tower.rows import BlockRows, Rows, TowerCut, best, only


def _step(rows: Rows, block: BlockRows, cut: TowerCut) -> Rows:
    """Those that stay keep their order."""
    score = block.class_attention().sum(dim=0)[cut.first :]
    return only(rows, select.ascending_values(best(rows, score, cut)[0]))


HIRED_EARLY = TowerMethod(
    "hired-early",
    "behind an early block the tokens with the highest attention of the class token stay, the same number in every tile",
    "own: HiRED's ranking (arXiv 2408.10945) before the encoder's output",
    step=_step,
    site="after",
    groups=True,
    class_token=True,
    differs="HiRED shares a budget over tiles by what block 0 attends to; here the plan fixes how many stay in each tile, and the method "
    "hired shares behind the tower",
)
