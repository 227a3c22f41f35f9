"""Rankings by what one row, the last of the question, looks at: FastV, PyramidDrop, FEATHER, FlowCut's language stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .attention import attention_of, image_attention, row_attention, turned
from .decoder import Layer, query_key_value, rms_norm
from .rows import Array, Order, best_first, forced_first, kept


def fastv(query: Array, keys: Array, length: int, visual: Sequence[int]) -> Order:
    """FastV (repository pkunlp-icler/FastV): attention of the prompt's last row in layer j - 1, for a cut before layer j.

    `query` [H * d] is the last row's, `keys` [G, L, d] the cache of layer j - 1, both rotated. Softmax over the whole row
    up to the prompt's end, mean over heads. The original keeps round(N * (1 - R)) rows where R is the share that leaves,
    and their positions. Nothing is left open.
    """
    return best_first(row_attention(query, keys, length - 1, visual))


def pdrop(
    hidden: Array, layer: Layer, eps: float, angles: Array, asking: int, visual: Sequence[int], width: int
) -> Order:
    """PyramidDrop (repository Cooperx521/PyramidDrop): queries and keys of the layer that comes next.

    `hidden` [L, D] are the rows as they arrive before layer j, `layer` are the weights of layer j, `angles` [L, d / 2]
    the rotation of every row at the position that it has in this stage. The question's last row `asking` (the prompt's
    last row in inference) gives the query; softmax over its whole row, mean over heads. Published shares: 0.5, 0.25, 0.125
    of the visual rows that entered, before layers 8, 16, 24 of 32; positions renumbered after every cut.
    Left open: what lies behind `asking` where it is not the last row; it is not seen here, as in every other attention.
    """
    normed = rms_norm(hidden[: asking + 1], layer.norm, eps)
    query, keys, _ = query_key_value(layer, normed, angles[: asking + 1], width, eps)
    return best_first(row_attention(query[asking], keys, asking, visual))


def grid_places(visual: Sequence[int], places: Mapping[int, tuple[int, int]], stride: int = 3) -> list[int]:
    """Visual rows on the uniform grid: row and column of their patch are both multiples of the stride."""
    return [row for row in visual if all(axis % stride == 0 for axis in places[row])]


def feather_scores(
    query: Array, query_angles: Array, keys: Array, key_angles: Array, visual: Sequence[int]
) -> dict[int, float]:
    """FEATHER's criterion from a rotated query [H * d] and rotated keys [G, L, d]: both turned back at their positions.

    `query_angles` [d / 2] are the asking row's, `key_angles` [L, d / 2] those of all rows. Softmax over the visual rows
    only, mean over heads.
    """
    width = keys.shape[-1]
    plain = turned(query.reshape(-1, 1, width), -query_angles[None]).reshape(-1)
    back = turned(keys[:, list(visual)], -key_angles[list(visual)])
    by_place = image_attention(plain, back, range(len(visual)))
    return {row: by_place[place] for place, row in enumerate(visual)}


def feather(score: Mapping[int, float], forced: Sequence[int]) -> Order:
    """FEATHER (repository markendo/FEATHER) as an order: the rows on the grid first, then the best of the rest.

    First cut (before layer 8 of 32): reading of layer 7, rows of `grid_places` forced. Second cut (before layer 16):
    reading of layer 15, nothing forced. With the count of the published union its first rows are that union.
    Differs: the count is fixed; where several rows are both forced and among the best, more of the others stay instead.
    Left open: several tiles, newlines and rows that an output method left out. Here `places` are what the caller says, so
    a grid of its own in every tile, on the raster before any reduction, is what fits best.
    """
    return forced_first(best_first(score), forced)


def feather_published(score: Mapping[int, float], forced: Sequence[int], share: float = 0.3) -> list[int]:
    """The union as released: the best int(n * share) and the grid; ascending, of no constant size."""
    return sorted(set(kept(best_first(score), int(len(score) * share))) | set(forced))


def flowcut(query: Array, keys: Array, last_value: Array, values: Array, visual: Sequence[int]) -> Order:
    """FlowCut's stage in the language model (repository TungChintao/FlowCut): one cut, by readings of layer 1 (from 0).

    relation = head mean of softmax over visual rows of q_last . k_j / sqrt(d); semantic = the same of v_last . v_j /
    sqrt(d) (scaled, unlike in the tower); score = (relation + semantic) * L1 norm of the head mean of v_j.
    `query` [H * d], `last_value` [G, d], `keys` and `values` [G, L, d]. Every value head answers equally many query heads,
    so means over value heads equal means over query heads. Positions are renumbered in the original.
    Left open: whether the rows leave before or after layer 1 runs. Read as "after layer 1 has run", a cut before layer 2
    with the readings of layer 1; the ranking is the same. Also open: whether relation's query and keys carry the rotation;
    here they are what they are in the layer, rotated.
    """
    relation = image_attention(query, keys, visual)
    semantic = attention_of(last_value.reshape(-1), values, list(visual)).mean(axis=0)
    middle = np.asarray(values, dtype=np.float64).mean(axis=0)
    return best_first(
        {row: (relation[row] + float(semantic[i])) * float(np.abs(middle[row]).sum()) for i, row in enumerate(visual)}
    )
