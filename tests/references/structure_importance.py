"""References of the importance scores of structured pruning, written from docs/structure.md only.

Plain loops over float64 arrays. A unit is the list of its columns in the out matrix; X is `[tokens, in]`, weights are
`[out, in]` as stored. What a score does not read is not asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Columns = Sequence[int]


def group_columns(groups: int, lanes: int) -> list[list[int]]:
    """Columns of every head group in W_o: `lanes` = r d columns each."""
    return [list(range(g * lanes, (g + 1) * lanes)) for g in range(groups)]


def channel_columns(channels: int) -> list[list[int]]:
    return [[c] for c in range(channels)]


def _head_members(wq: Array, wk: Array, wv: Array, wo: Array, groups: int, g: int) -> list[tuple[Array, Array]]:
    """(matrix, members of group g in it) for the four matrices."""
    lanes, width = wq.shape[0] // groups, wk.shape[0] // groups
    return [
        (wq, wq[g * lanes : (g + 1) * lanes]),
        (wk, wk[g * width : (g + 1) * width]),
        (wv, wv[g * width : (g + 1) * width]),
        (wo, wo[:, g * lanes : (g + 1) * lanes]),
    ]


def _channel_members(inner: Sequence[Array], outer: Array, c: int) -> list[tuple[Array, Array]]:
    return [(w, w[c]) for w in inner] + [(outer, outer[:, c])]


# --------------------------------------------------------------------------------------------------------- magnitude


def _root_of_squares(parts: Sequence[Array]) -> float:
    return math.sqrt(math.fsum(w * w for part in parts for w in part.ravel().tolist()))


def magnitude_heads(
    wq: Array,
    wk: Array,
    wv: Array,
    wo: Array,
    bq: Array | None,
    bk: Array | None,
    bv: Array | None,
    groups: int,
) -> list[float]:
    """L2 norm over all members of every group; the bias of W_o belongs to no unit."""
    scores = []
    for g in range(groups):
        parts = [part for _, part in _head_members(wq, wk, wv, wo, groups, g)]
        for bias in (bq, bk, bv):
            if bias is not None:
                rows = bias.shape[0] // groups
                parts.append(bias[g * rows : (g + 1) * rows])
        scores.append(_root_of_squares(parts))
    return scores


def magnitude_channels(inner: Sequence[Array], inner_bias: Sequence[Array | None], outer: Array) -> list[float]:
    """`inner` is [fc1] or [gate, up]; one entry of `inner_bias` each."""
    scores = []
    for c in range(outer.shape[1]):
        parts = [part for _, part in _channel_members(inner, outer, c)]
        parts += [bias[c : c + 1] for bias in inner_bias if bias is not None]
        scores.append(_root_of_squares(parts))
    return scores


# ------------------------------------------------------------------------------------------- what reads activations


def taylor_terms(
    x_per_sample: Sequence[Array], grad_per_sample: Sequence[Array], units: Sequence[Columns]
) -> list[list[float]]:
    """T_s of every sample (outer list) and unit (inner list)."""
    terms = []
    for x, grad in zip(x_per_sample, grad_per_sample, strict=True):
        row = []
        for unit in units:
            row.append(math.fsum(float(x[t, i]) * float(grad[t, i]) for t in range(x.shape[0]) for i in unit))
        terms.append(row)
    return terms


def taylor(x_per_sample: Sequence[Array], grad_per_sample: Sequence[Array], units: Sequence[Columns]) -> list[float]:
    terms = taylor_terms(x_per_sample, grad_per_sample, units)
    return [math.fsum(row[u] ** 2 for row in terms) / len(terms) for u in range(len(units))]


def activation(w_out: Array, x: Array, units: Sequence[Columns]) -> list[float]:
    scores = []
    for unit in units:
        total = 0.0
        for i in unit:
            energy = math.fsum(v * v for v in x[:, i].tolist()) / x.shape[0]
            total += energy * math.fsum(w * w for w in w_out[:, i].tolist())
        scores.append(math.sqrt(total))
    return scores


def amp_heads(w_out: Array, x: Array, groups: int, queries: int) -> list[float]:
    """`queries` = r query heads share a group; every head's own L1 norm is taken before they are summed."""
    width = w_out.shape[1] // (groups * queries)
    scores = []
    for g in range(groups):
        total = 0.0
        for h in range(g * queries, (g + 1) * queries):
            lanes = slice(h * width, (h + 1) * width)
            norms = [math.fsum(abs(v) for v in (w_out[:, lanes] @ row[lanes]).tolist()) for row in x]
            total += math.fsum(norms) / x.shape[0]
        scores.append(total)
    return scores


def amp_channels(x: Array) -> list[float]:
    return [math.fsum(abs(v) for v in x[:, c].tolist()) / x.shape[0] for c in range(x.shape[1])]


def damped_second_moment(x: Array, damping: float = 0.01) -> Array:
    moment = x.T @ x / x.shape[0]
    return moment + damping * float(np.mean(np.diag(moment))) * np.eye(x.shape[1])


def obs(w_out: Array, x: Array, units: Sequence[Columns], damping: float = 0.01) -> list[float]:
    inverse = np.linalg.inv(damped_second_moment(x, damping))
    scores = []
    for unit in units:
        removed = w_out[:, list(unit)]
        scores.append(float(np.trace(removed @ np.linalg.inv(inverse[np.ix_(unit, unit)]) @ removed.T)))
    return scores


def obs_by_refit(w_out: Array, x: Array, units: Sequence[Columns], damping: float = 0.01) -> list[float]:
    """The same by what it means: the least of mean |W x - V x|^2 + ridge |W - V|^2 over every V whose columns S are 0."""
    tokens, width = x.shape
    ridge = damping * float(np.mean(np.diag(x.T @ x / tokens)))
    seen = np.vstack([x / math.sqrt(tokens), math.sqrt(ridge) * np.eye(width)])
    wanted = seen @ w_out.T
    scores = []
    for unit in units:
        kept = [i for i in range(width) if i not in set(unit)]
        refitted = np.linalg.lstsq(seen[:, kept], wanted, rcond=None)[0]
        scores.append(float(np.sum((wanted - seen[:, kept] @ refitted) ** 2)))
    return scores


# ------------------------------------------------------------------------------------------------- what reads weights


def _weight_share(w: float, matrix: Array) -> float:
    """w^2 against everything in its matrix that is no smaller; 0 for w = 0."""
    larger = math.fsum(v * v for v in matrix.ravel().tolist() if abs(v) >= abs(w))
    return w * w / larger if larger > 0 else 0.0


def _mean_weight_share(members: Sequence[tuple[Array, Array]]) -> float:
    shares = [_weight_share(w, matrix) for matrix, part in members for w in part.ravel().tolist()]
    return math.fsum(shares) / len(shares)


def dimap_heads(wq: Array, wk: Array, wv: Array, wo: Array, groups: int) -> list[float]:
    return [_mean_weight_share(_head_members(wq, wk, wv, wo, groups, g)) for g in range(groups)]


def dimap_channels(inner: Sequence[Array], outer: Array) -> list[float]:
    """Gate and up are two matrices, also where a checkpoint stores them as one."""
    return [_mean_weight_share(_channel_members(inner, outer, c)) for c in range(outer.shape[1])]
