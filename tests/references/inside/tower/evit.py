"""EViT (repository youweiliang/evit, commit 5ca95a7), site `between` attention and MLP.

score_j = head mean of the class token's attention, x the rows after the attention's residual. The
K = ceil(rate * (n - 1)) patches with the highest score stay; of the others one fused row

    f = sum over those that leave of score_j x_j        (not normalised)

goes on as the last row. It has no place and no size, and counts as a patch at the next cut: 196 at 0.7 gives
138 + 1, then ceil(0.7 * 139) = 98 + 1, then 70 + 1.

Source: kept rows are in order of falling score. A block does not depend on the order of its rows, so the arriving
order is the default here and `by_score` gives the source's.
Open in the facts: what happens when nothing leaves (here: no fused row); whether a fused row may be given up (here
`fuse=False`; the repository has it as an option). Sizes are no part of the method: those that arrive are carried with
the kept rows, and the fused row then gets size 1, so that it carries no mass into proportional attention.
`owner` of a row that leaves is the fused row's number.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .rows import Rows, Step, class_attention, dropped, highest, padding_first


def act(rows: Rows, count: int, *, fuse: bool = True, by_score: bool = False) -> Step:
    score = class_attention(rows)
    ranked = highest(rows.patches, score)
    kept = ranked[:count] if by_score else sorted(ranked[:count])
    step = dropped(rows, kept)
    if not fuse:
        return step
    fused = np.zeros(rows.x.shape[1])
    owner = step.owner.copy()
    for j in sorted(ranked[count:]):
        fused += score[j] * rows.x[j]
        owner[j] = len(step.x)
    return replace(
        step,
        x=np.vstack([step.x, fused]),
        index=np.append(step.index, -1),
        owner=owner,
        size=None if step.size is None else np.append(step.size, 1.0),
    )


step = padding_first(act)
