"""HiRED's tokens leaving early: HiRED (repository hasanar1f/HiRED, its paper's rules) moved into the tower, site `after`.

A design of this project; HiRED itself selects behind the tower. A tile keeps the patches with the highest class
attention of the block, summed over heads, in arriving order. How many each tile keeps comes from block 0 of the
thumbnail: content s_t = sum over heads and over the thumbnail's patches in the region of tile t of the class token's
attention of block 0.

`counts`: the paper's floors, N_full = floor(alpha B) for the thumbnail and floor((B - N_full) s_t / sum s) for a
tile, at most the patches of a tile, nothing given out again. `buckets`: the form with a constant time: the plan says
how many tiles go to which count, and the content only who goes where (more content, larger count; equal content: the
lower tile). The thumbnail (tile 0) keeps the count it is given.
Open in the facts: which block cuts (any after 0); whether the thumbnail takes part in the buckets (here it does not).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from .rows import Floats, Rows, Step, dropped, highest, padding_first, written


def content(early: Floats, region: Floats) -> list[float]:
    """[H, N] class attention of the thumbnail in block 0, [T, N] which part lies in a tile -> s of tiles 1 .. T - 1."""
    heads, n = early.shape
    return [
        math.fsum(early[h, j] * region[t, j] for h in range(heads) for j in range(n)) for t in range(1, len(region))
    ]


def counts(contents: Sequence[float], budget: int, patches: int, alpha: float | Fraction = 0.5) -> list[int]:
    """Patches that every tile keeps (thumbnail first); may sum to less than the budget."""
    full = min(math.floor(written(alpha) * budget), patches)
    total = sum(map(Fraction, contents))
    if total == 0:
        return [full] + [0] * len(contents)
    return [full, *(min(math.floor((budget - full) * Fraction(s) / total), patches) for s in contents)]


def buckets(contents: Sequence[float], sizes: Sequence[int]) -> list[int]:
    """Counts of tiles 1 .. T - 1 for a plan's counts in any order: the most content gets the largest."""
    ranked = highest(range(len(contents)), list(contents))
    found = [0] * len(contents)
    for t, size in zip(ranked, sorted(sizes, reverse=True), strict=True):
        found[t] = size
    return found


def act(rows: Rows, count: int) -> Step:
    if not rows.class_token:
        raise ValueError("HiRED ranks by the class token's attention, and there is no class token")
    score = [math.fsum(rows.attention[h, 0, j] for h in range(rows.heads)) for j in range(rows.n)]
    return dropped(rows, sorted(highest(rows.patches, score)[:count]))


step = padding_first(act)
