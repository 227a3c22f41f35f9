"""MCTF (repository mlvlab/MCTF, commit 2004da0), site `before` the attention of the block, sizes and map carried.

q, k, v are those of norm1(x) of the block that is about to run, the map A = softmax(q k / sqrt(d) + log size) is the
one that this block would use. With a_i = mean over heads and over all queries (class token included) of column i:

    W_ij = ((cos(x_i, x_j) + 1) / 2)^(1 / 1) * (u_i u_j)^(1 / 20) * (s_i s_j)^(1 / 40)
    u = (1 / a) / max(1 / a),   s = (1 / size) / max(1 / size),   x the rows themselves and not their keys

Sides as in ToMe: A even places, B odd places, the class token never joins. r = arriving patches - count; first
r // 2 rows of A with the highest best value join their best row of B, then r - r // 2 rows of B with the highest best
value over the patches of A that are still there join that one. Values are those of the first W in both halves, and a
row of B that has taken rows in may go on with them: nothing in the facts excludes it.

    pooling weight w_i = a_i size_i / max size,   x = sum w x / sum w,   size = sum size

The block does not compute a second map: columns of A are summed inside a group, rows are averaged with the weights w
(`Step.attention`), and the block's attention is that map times the values of the merged rows.

Order: [patches of A still there by rising index (the class token first), rows of B still there by *falling* value of
the second half]; the next cut's even and odd places are those of this order.
Guards: r <= (n - protected) // 2, and at least 10 rows stay (`least`; open whether the class token is one of them:
here it is).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .rows import Floats, Rows, Step, cosine, highest, merged, padding_first


def matching(rows: Rows, tau_similarity: float, tau_importance: float, tau_size: float) -> Floats:
    """[n, n] W between all rows."""
    asked = rows.attention.mean(axis=(0, 1))
    u = (1 / asked) / (1 / asked).max()
    s = (1 / rows.weight) / (1 / rows.weight).max()
    w = np.zeros((rows.n, rows.n))
    for i in range(rows.n):
        for j in range(rows.n):
            likeness = (cosine(rows.x[i], rows.x[j]) + 1) / 2
            w[i, j] = (
                max(likeness, 0.0) ** (1 / tau_similarity)
                * (u[i] * u[j]) ** (1 / tau_importance)
                * (s[i] * s[j]) ** (1 / tau_size)
            )
    return w


def act(
    rows: Rows,
    count: int,
    *,
    tau_similarity: float = 1.0,
    tau_importance: float = 20.0,
    tau_size: float = 40.0,
    least: int = 10,
) -> Step:
    r = min(len(rows.patches) - count, len(rows.patches) // 2, max(rows.n - least, 0))
    if r == 0:
        return merged(rows, [(i, [i]) for i in range(rows.n)], rows.weight)
    w = matching(rows, tau_similarity, tau_importance, tau_size)
    a_side = [i for i in range(0, rows.n, 2) if i >= rows.first]
    b_side = list(range(1, rows.n, 2))
    members = {i: [i] for i in range(rows.n)}

    best = {i: max(w[i, j] for j in b_side) for i in a_side}
    for i in highest(a_side, best)[: r // 2]:
        j = next(j for j in b_side if w[i, j] == best[i])
        members[j] += members.pop(i)
    a_left = [i for i in a_side if i in members]

    best = {j: max(w[i, j] for i in a_left) for j in b_side}
    ranked = highest(b_side, best)
    for j in ranked[: r - r // 2]:
        i = next(i for i in a_left if w[i, j] == best[j])
        members[i] += members.pop(j)
    b_left = [j for j in ranked if j in members]

    order = [*range(rows.first), *a_left, *b_left]
    pooling = rows.attention.mean(axis=(0, 1)) * rows.weight / rows.weight.max()
    step = merged(rows, [(i, members[i]) for i in order], pooling)
    return replace(step, attention=merged_map(rows.attention, [members[i] for i in order], pooling))


def merged_map(attention: Floats, groups: list[list[int]], weight: Floats) -> Floats:
    """[H, n, n] -> [H, m, m]: columns of a group summed, rows averaged by weight."""
    columns = np.stack([attention[:, :, group].sum(axis=2) for group in groups], axis=2)
    rows = [sum(weight[i] * columns[:, i, :] for i in group) / sum(weight[i] for i in group) for group in groups]
    return np.stack(rows, axis=1)


step = padding_first(act)
