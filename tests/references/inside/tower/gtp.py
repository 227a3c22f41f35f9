"""GTP-ViT (repository Ackesnal/GTP-ViT, commit 97a1178), site `between` attention and MLP, a graph carried.

Score ("MixedAttnMax"): r_j = max over heads of A_jj times max over heads of the sum of column j, the class token's
query among the rows. The patches with the lowest r leave and are spread over the kept ones:

    x_keep += alpha * W[keep, gone] x_gone,   W <- W[keep, keep] (not normalised again)

W is made once from the embedded patches (`neighbours`): two patches are linked if they are among the eight neighbours
on the grid ("spatial"), or if their cosine is at least the `nearest`-th largest of the row's ("semantic"), or either
("mixed"); no self loops; D^-1/2 W D^-1/2, D the sums of the rows.

Optional: `theta` below 1 zeroes, per head, what lies below the (1 - theta) quantile of the n * n map, only in the
score and without normalising again. Sizes that arrive are carried as token scales: s_keep += alpha W[keep, gone]
s_gone (optional in the source; they then go into attention as log s). Sizes do not sum to n.

The source removes the same number P in every block and keeps the order of falling score (`by_score`); a block does
not depend on the order, so arriving order is the default. alpha 0.1 .. 0.4 in the source (0.4 at P = 4; 0.1 at P = 8).
A row whose neighbours all left before is lost. `owner` of a row that leaves is -1: it went to several.
Open in the facts, chosen here: the patch itself counts among its `nearest` most similar (its cosine with itself is the
largest, and self loops are said to be removed afterwards); semantic links are not made symmetric: row i links to what
is near to i, so W[keep, gone] asks what is near to the kept one; the quantile of few entries: the
floor((1 - theta) n n) lowest entries of a head are zeroed, equal entries from the lower index on.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np

from .rows import Floats, Rows, Step, cosine, dropped, highest, padding_first, written


def spatial_links(grid: tuple[int, int]) -> Floats:
    """[p, p] 1 where two patches of a raster touch, at corners too; 0 on the diagonal."""
    height, width = grid
    links = np.zeros((height * width, height * width))
    for i in range(height * width):
        for j in range(height * width):
            far = max(abs(i // width - j // width), abs(i % width - j % width))
            links[i, j] = float(far == 1)
    return links


def semantic_links(embedded: Floats, nearest: int) -> Floats:
    """[p, p] 1 where the cosine is at least the `nearest`-th largest of the row (its own 1 counts), 0 on the diagonal."""
    p = len(embedded)
    links = np.zeros((p, p))
    for i in range(p):
        likeness = [1.0 if i == j else cosine(embedded[i], embedded[j]) for j in range(p)]
        threshold = sorted(likeness, reverse=True)[min(nearest, p) - 1]
        for j in range(p):
            links[i, j] = float(i != j and likeness[j] >= threshold)
    return links


def neighbours(embedded: Floats, grid: tuple[int, int], *, kind: str = "mixed", nearest: int = 8) -> Floats:
    """[p, p] W of the embedded patches (positions added, without the class token)."""
    links = np.zeros((len(embedded), len(embedded)))
    if kind in ("spatial", "mixed"):
        links = np.maximum(links, spatial_links(grid))
    if kind in ("semantic", "mixed"):
        links = np.maximum(links, semantic_links(embedded, nearest))
    degree = links.sum(axis=1)
    w = np.zeros_like(links)
    for i in range(len(links)):
        for j in range(len(links)):
            if links[i, j] and degree[j]:
                w[i, j] = 1 / math.sqrt(degree[i] * degree[j])
    return w


def sparsified(attention: Floats, theta: float | Fraction) -> Floats:
    """[H, n, n] with the lowest floor((1 - theta) n n) entries of every head set to 0."""
    found: Floats = attention.copy()
    for head in found:
        flat = head.reshape(-1)
        lowest = sorted(range(flat.size), key=lambda e: (flat[e], e))
        for e in lowest[: math.floor((1 - written(theta)) * flat.size)]:
            flat[e] = 0.0
    return found


def act(rows: Rows, count: int, *, alpha: float = 0.1, theta: float | Fraction = 1, by_score: bool = False) -> Step:
    if rows.graph is None:
        raise ValueError("GTP-ViT spreads along a graph between patches, and none was given")
    attention = sparsified(rows.attention, theta)
    score = {
        j: max(attention[h, j, j] for h in range(rows.heads)) * max(attention[h, :, j].sum() for h in range(rows.heads))
        for j in rows.patches
    }
    ranked = highest(rows.patches, score)
    kept = ranked[:count] if by_score else sorted(ranked[:count])
    gone = sorted(ranked[count:])
    step = dropped(rows, kept)
    x = step.x.copy()
    size = None if step.size is None else step.size.copy()
    for row, i in enumerate(kept, start=rows.first):
        for j in gone:
            weight = alpha * rows.graph[i - rows.first, j - rows.first]
            x[row] += weight * rows.x[j]
            if size is not None:
                size[row] += weight * rows.weight[j]
    return replace(step, x=x, size=size)


step = padding_first(act)
