"""FlowCut (repository TungChintao/FlowCut, commit a2ecd247) as a cut inside the tower, site `after`, a score carried.

In *every* block, on the patches still there, with A the block's map and v its values:

    a = head mean of the class token's attention; b = head mean of the softmax over patches of v_class . v_j, unscaled;
    both divided by their sums; score = (a + b) * L1 norm of the head mean of v_j
    c = score in the first block, then 0.5 c + 0.5 score

A cut keeps the patches with the highest c, in arriving order; the class token always. Padding is no term of a sum or
softmax over patches and has c = -1. Which blocks cut and how many stay are outside (`tests/references/flowcut.py`:
`cut_blocks`, `schedule`): in the source they depend on the entropy of a, here they are given.
`observe` makes c; `step` ranks by the c that it is given (from the same block), or by the block's own score alone.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .rows import Floats, Rows, Step, attention_map, dropped, head_mean, highest, padding_first

PADDING = -1.0


def block_score(rows: Rows) -> Floats:
    """[n]; 0 for the class token."""
    if not rows.class_token:
        raise ValueError("FlowCut reads the class token, and there is none")
    p = len(rows.patches)
    a = rows.attention[:, 0, 1:].mean(axis=0)
    b = np.zeros(p)
    width = rows.v.shape[1] // rows.heads
    for h in range(rows.heads):
        values = rows.v[:, h * width : (h + 1) * width]
        logits = np.array([float(values[0] @ values[j]) for j in rows.patches])
        parts = np.exp(logits - logits.max())
        b += parts / parts.sum() / rows.heads
    length = np.abs(head_mean(rows.v, rows.heads)[1:]).sum(axis=1)
    return np.concatenate([[0.0], (a / math.fsum(a) + b / math.fsum(b)) * length])


def observe(
    x: Floats,
    q: Floats,
    k: Floats,
    v: Floats,
    heads: int,
    *,
    class_token: bool = True,
    score: Floats | None = None,
    valid: NDArray[np.bool_] | None = None,
    size: Floats | None = None,
) -> Floats:
    """[n] c after this block; `score` is c after the block before, for the rows that are still there."""
    there = [i for i in range(len(x)) if valid is None or valid[i] or i < int(class_token)]
    rows = Rows(x, q, k, v, heads, attention_map(q, k, heads, size), class_token).take(there)
    found = np.full(len(x), PADDING)
    if len(there) > 1:
        found[there] = block_score(rows)
    return found if score is None else np.where(found == PADDING, PADDING, 0.5 * score + 0.5 * found)


def act(rows: Rows, count: int) -> Step:
    score = block_score(rows) if rows.score is None else rows.score
    return dropped(rows, sorted(highest(rows.patches, score)[:count]))


step = padding_first(act)
