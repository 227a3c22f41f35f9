"""Reference of the compensation of structured pruning, from docs/structure.md only: a least-squares problem as it stands.

    least over V (and the intercept) of  mean |y - V x'_K - intercept|^2 + ridge |V - W_K|^2,   y = W x

is written as one tall system, the prior as rows scaled by sqrt(ridge), and handed to lstsq: no normal equations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .structure_importance import Array


def ridge_of(x_kept: Array, centred: bool, share: float = 0.3) -> float:
    """`share` of the mean over kept columns of the second moment, or of the variance where means are subtracted."""
    moments = []
    for column in x_kept.T:
        values = column - np.mean(column) if centred else column
        moments.append(float(np.mean(values * values)))
    return share * math.fsum(moments) / len(moments)


def compensate(
    w: Array, b: Array | None, x: Array, x_pruned: Array, kept: Sequence[int], ridge_share: float = 0.3
) -> tuple[Array, Array | None]:
    """(V `[out, kept]`, new bias or None). `x_pruned` `[tokens, in]` is read in its kept columns only."""
    tokens, columns = x.shape[0], list(kept)
    seen = x_pruned[:, columns]
    start = w[:, columns]
    wanted = x @ w.T
    ridge = ridge_of(seen, centred=b is not None, share=ridge_share)
    if ridge == 0:  # nothing to learn from: the columns stay where they are
        return start, None if b is None else b + np.mean(wanted, axis=0) - start @ np.mean(seen, axis=0)

    # as a correction to W_K, whose prior is 0
    rows = seen / math.sqrt(tokens)
    targets = (wanted - seen @ start.T) / math.sqrt(tokens)
    prior = math.sqrt(ridge) * np.eye(len(columns))
    if b is not None:  # one more unknown, which the prior leaves free
        rows = np.hstack([rows, np.full((tokens, 1), 1 / math.sqrt(tokens))])
        prior = np.hstack([prior, np.zeros((len(columns), 1))])
    system = np.vstack([rows, prior])
    right = np.vstack([targets, np.zeros((len(columns), w.shape[0]))])
    found = np.linalg.lstsq(system, right, rcond=None)[0].T
    v = start + found[:, : len(columns)]
    return v, None if b is None else b + found[:, -1]
