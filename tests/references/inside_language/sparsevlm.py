"""SparseVLM (repository Gumpest/SparseVLMs, v1.5): raters, ranking by their attention, recycling of what leaves.

Published counts (v1.5, cuts after layers 2, 6, 15 from 0, so before 3, 7, 16, by "average tokens"): 192: 300, 200, 110; 128: 303, 110, 36;
96: 238, 48, 26; 64: 66, 30, 17. Positions are renumbered in v1.x. v1.0's count by the rank of the attention and v2.0's
correction of position bias and 14 heads are not covered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .attention import question_attention, softmax
from .rows import Array, Order, best_first, kept

RECYCLED = {192: (300, 200, 110), 128: (303, 110, 36), 96: (238, 48, 26), 64: (66, 30, 17)}
SHARE = 0.3  # of what leaves, the part that is clustered
PER_CENTRE = 10


def raters(visual: Array, question: Array) -> list[int]:
    """Numbers of the question rows that rate: chosen once, from embeddings, before layer 0.

    `visual` [N, D] projected visual rows, `question` [T, D] the question's embeddings. Softmax over the *question* of
    v . t (unscaled), mean over v; raters are above the mean of these means, strictly.
    Left open: what happens when none is above (all alike, or T = 1); then every row rates.
    """
    wide = np.asarray(visual, dtype=np.float64) @ np.asarray(question, dtype=np.float64).T
    relevance = softmax(wide).mean(axis=0)
    chosen = [t for t, value in enumerate(relevance) if value > relevance.mean()]
    return chosen or list(range(len(relevance)))


def rater_weights(chosen: Sequence[int], bucket: int) -> list[float]:
    """The same as weights [R] of a bucket of question rows: 1 / n for each of n raters, else 0."""
    return [1 / len(chosen) if t in set(chosen) else 0.0 for t in range(bucket)]


def sparsevlm(
    queries: Array, keys: Array, asking: Sequence[int], weights: Sequence[float], visual: Sequence[int]
) -> Order:
    """Mean over raters of the head mean of attention in the layer that has just run, softmax over each rater's whole row.

    For a cut before layer j: `queries` [R, H * d] and `keys` [G, L, d] of layer j - 1, rotated; `asking` [R] are the
    question's rows in the list that arrives, `weights` [R] those of `rater_weights`.
    """
    return best_first(question_attention(queries, keys, asking, weights, visual))


@dataclass(frozen=True, eq=False)
class Recycled:
    """What comes of the rows that leave: one extra row per centre.

    `matrix` [c, L]: extra row i is the sum over rows r of matrix[i, r] * hidden[r]. `clusters[i]` are the rows that go
    into it, centre included. Published order: extra rows follow the kept visual rows, in the order of the centres' score.
    """

    centres: list[int]
    clusters: list[list[int]]
    matrix: Array


def recycled_counts(leaving: int) -> tuple[int, int]:
    """(rows that are clustered, centres) for so many leaving rows: int(0.3 n) + 1 and int(that / 10) + 1.

    Left open: nothing leaves. The formula says one row; here it is none.
    """
    if leaving == 0:
        return 0, 0
    clustered = int(SHARE * leaving) + 1
    return clustered, int(clustered / PER_CENTRE) + 1


def centre_scores(points: Array, neighbours: int) -> list[float]:
    """DPC-KNN, density times distance, of points [n, C].

    Distances are L2 / sqrt(C). Density: exp(-mean of the `neighbours` smallest squared distances of the row, the point's
    own 0 among them). Distance: to the nearest point of strictly larger density; where there is none, the largest distance
    between any two points. The original adds noise of 1e-6 to the density to part ties; here there is none, so several
    densest points all have the largest distance.
    """
    wide = np.asarray(points, dtype=np.float64)
    n = len(wide)
    apart = [[float(np.linalg.norm(wide[i] - wide[j])) / math.sqrt(wide.shape[1]) for j in range(n)] for i in range(n)]
    density = []
    for row in apart:
        nearest = sorted(distance**2 for distance in row)[:neighbours]
        density.append(math.exp(-math.fsum(nearest) / len(nearest)))
    farthest = max(max(row) for row in apart)
    scores = []
    for i in range(n):
        denser = [apart[i][j] for j in range(n) if density[j] > density[i]]
        scores.append(density[i] * (min(denser) if denser else farthest))
    return scores


def recycle(order: Order, count: int, hidden: Array) -> Recycled:
    """The second step: the best of the rows that leave are clustered, every cluster's mean stays as one extra row.

    `hidden` [L, D] is the output of the layer that has just run (both the metric and what is averaged). Of the rows behind
    the first `count` of the order the best m are clustered around c centres, with c neighbours for the density; a row goes
    to the nearest centre (ties: the earlier centre), a centre to itself; sums are divided by n + 1e-6 as released.
    """
    leaving = order[count:]
    clustered, wanted = recycled_counts(len(leaving))
    members = kept(leaving, clustered)
    length = len(hidden)
    if not members:
        return Recycled([], [], np.zeros((0, length)))
    points = np.asarray(hidden, dtype=np.float64)[members]
    scores = centre_scores(points, min(wanted, len(members)))
    places = best_first(dict(enumerate(scores)))[:wanted]
    clusters: list[list[int]] = [[] for _ in places]
    for place in range(len(members)):
        if place in places:
            home = places.index(place)
        else:
            away = [float(np.linalg.norm(points[place] - points[centre])) for centre in places]
            home = away.index(min(away))
        clusters[home].append(members[place])
    matrix = np.zeros((len(places), length))
    for i, cluster in enumerate(clusters):
        for row in cluster:
            matrix[i, row] = 1 / (len(cluster) + 1e-6)
    return Recycled([members[place] for place in places], clusters, matrix)
