"""MustDrop's stages in the language model (repository liuting20/MustDrop): two thresholds, and a key set that stays.

Cuts after layers 2, 6, 10, 14 (from 0, so before 3, 7, 11, 15) by the attention of the layer that has just run; positions
renumbered. Thresholds (g, i) by average tokens: 192: .001, .001; 128: .0012, .001; 64: .011, .01. The windows
merged in the tower and the trim of early caches after prefill are other steps and not here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from .attention import row_attention
from .rows import Array, Order, best_first, forced_first

THRESHOLDS = {192: (0.001, 0.001), 128: (0.0012, 0.001), 64: (0.011, 0.01)}
KEY_SHARE = 0.08


def key_set(class_attention: Mapping[int, float]) -> list[int]:
    """The ceil(8 %) of the N tokens with the highest class attention (head mean) of the tower's layer 23; ascending.

    Left open: an output method in front, so that fewer tokens enter; here N is what the caller hands in.
    """
    return sorted(best_first(class_attention)[: math.ceil(KEY_SHARE * len(class_attention))])


def asked_of(queries: Array, keys: Array, asking: Sequence[int], visual: Sequence[int]) -> list[dict[int, float]]:
    """M, [T, N]: head mean of what every text row behind the picture gives every visual row (softmax over whole rows)."""
    return [row_attention(query, keys, row, visual) for query, row in zip(queries, asking, strict=True)]


def _sum_and_most(m: Sequence[Mapping[int, float]]) -> tuple[dict[int, float], dict[int, float], float]:
    sums = {v: math.fsum(row[v] for row in m) for v in m[0]}
    return sums, {v: max(row[v] for row in m) for v in m[0]}, math.fsum(sums.values())


def survivors(m: Sequence[Mapping[int, float]], g: float, i: float, keys: Sequence[int] = ()) -> list[int]:
    """As released: v leaves when its sum is below g * total *and* its highest below i; the key set is united; ascending.

    The total runs over all text rows and visual rows of M. The count depends on the data.
    """
    sums, most, total = _sum_and_most(m)
    return sorted({v for v in sums if not (sums[v] < g * total and most[v] < i)} | set(keys))


def mustdrop(m: Sequence[Mapping[int, float]], g: float, i: float, keys: Sequence[int] = ()) -> Order:
    """The same with a fixed count: by max(sum / (g * total), max / i), key set first (the count is to be at least theirs).

    The rows with 1 or more are the released survivors, so with their number as the count both agree.
    """
    sums, most, total = _sum_and_most(m)
    ratio = {v: max(sums[v] / (g * total), most[v] / i) for v in sums}
    return forced_first(best_first(ratio), keys)
