"""Attention of a few asking rows, read from what lies in the buffers: rotated queries and the cache's rotated keys.

Shapes: a query is one row of the layer's query buffer [H * d], heads side by side; keys and values lie as in the cache,
[G, L, d] with G key/value heads. Query head h reads key head h // (H / G) (grouped-query attention, GQA).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .rows import Array


def softmax(scores: Array) -> Array:
    """Over the last axis, in float64; the highest score is taken off first."""
    wide = np.asarray(scores, dtype=np.float64)
    parts = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return np.asarray(parts / parts.sum(axis=-1, keepdims=True))


def by_head(query: Array, width: int) -> Array:
    """[H, d] from one row [H * d]."""
    return np.asarray(query, dtype=np.float64).reshape(-1, width)


def attention_of(query: Array, keys: Array, columns: Sequence[int], scale: float | None = None) -> Array:
    """[H, columns]: softmax over the given columns of q . k * scale (1/sqrt(d) where none is given), head by head."""
    groups, _, width = keys.shape
    heads = by_head(query, width)
    scale = 1 / math.sqrt(width) if scale is None else scale
    share = len(heads) // groups
    found = np.zeros((len(heads), len(columns)))
    for h, head in enumerate(heads):
        mine = np.asarray(keys[h // share], dtype=np.float64)
        found[h] = softmax(np.array([float(head @ mine[column]) for column in columns]) * scale)
    return found


def row_attention(query: Array, keys: Array, asking: int, visual: Sequence[int]) -> dict[int, float]:
    """Head mean of what the row `asking` gives every visual row; the softmax runs over the whole row, 0..asking.

    The row sees itself and what lies before it, so whatever lies behind it (garbage behind the prompt too) has no part.
    """
    columns = list(range(asking + 1))
    late = [row for row in visual if row > asking]
    if late:
        raise ValueError(f"visual rows {late} lie behind the asking row {asking}")
    weights = attention_of(query, keys, columns).mean(axis=0)
    return {row: float(weights[row]) for row in visual}


def image_attention(query: Array, keys: Array, visual: Sequence[int]) -> dict[int, float]:
    """The same with the softmax over the visual columns only: once heads are averaged this is another ranking."""
    weights = attention_of(query, keys, list(visual)).mean(axis=0)
    return {row: float(weights[place]) for place, row in enumerate(visual)}


def question_attention(
    queries: Array, keys: Array, asking: Sequence[int], weights: Sequence[float], visual: Sequence[int]
) -> dict[int, float]:
    """Weighted sum over asking rows of `row_attention`: softmax first, row by row, then the weights.

    `queries` [R, H * d] and `weights` [R] belong to the rows `asking` [R]; an entry of weight 0 (padding of a bucket) is
    never read. Weights 1/n for n asking rows make the mean.
    """
    found = dict.fromkeys(visual, 0.0)
    for query, row, weight in zip(queries, asking, weights, strict=True):
        if weight == 0:
            continue
        for place, share in row_attention(query, keys, row, visual).items():
            found[place] += weight * share
    return found


def turned(x: Array, angles: Array) -> Array:
    """Rotary embedding of [..., L, d] by angles [L, d / 2]: channel c is paired with c + d / 2 (Llama's halves).

    Negative angles turn back. Angles are an input, so that scaled frequencies and several axes need nothing here; not
    covered: a factor on cos and sin (YaRN), rotating only the first channels, pairing of neighbours.
    """
    wide = np.asarray(x, dtype=np.float64)
    half = wide.shape[-1] // 2
    first, second = wide[..., :half], wide[..., half:]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def angles_of(positions: Sequence[int] | Array, frequencies: Array) -> Array:
    """[L, d / 2]: position times frequency."""
    return np.outer(np.asarray(positions, dtype=np.float64), np.asarray(frequencies, dtype=np.float64))


def plain_frequencies(width: int, theta: float = 10000.0) -> Array:
    """[d / 2]: theta ** (-2 i / d)."""
    return np.array([theta ** (-2 * i / width) for i in range(width // 2)])
