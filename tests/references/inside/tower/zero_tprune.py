"""Zero-TPrune (a detailed reading note and two partial re-implementations; no official code found), site `after`.

A cut has three parts, I' -> S -> I, on the map A of the block and the keys of the block:

- WPR: per head s_0 = 1 for patches and sqrt(n) for the class token, s_t = A^T s_(t-1), `rounds` times.
- over heads: s = sqrt(sum of s_h^2 ok_h / sum of ok_h), ok_h: the variance of s_h over tokens lies in [0.01, 0.7].
- I': one round (heads combined as above), nothing leaves. S: patches by importance; the less important half is A, the other B; every row of A
  has its most similar row of B by keys (cosine); the `similar` rows of A with the highest similarity are dropped.
- I: WPR on what is left, the highest `count` patches stay. The class token always stays. Nothing is merged.

Scores are scaled to mean 1 over the rows at the start: A^T keeps the sum, and the variance bounds mean nothing for
scores that sum to 1 (their variance cannot reach 0.01 with 197 rows).

Open in the facts, chosen here: how a cut's removals are divided (the paper searches both numbers: `similar` defaults
to half of them, rounded down, at most the size of A); the half of an odd number of patches (A gets the smaller);
keys of all heads side by side; the map on the survivors (its rows are made to sum to 1 again, which is the softmax
over them); the class token is in neither half; population variance, over all rows with the class token; where no head
passes, all heads count; n of sqrt(n) is the number of rows at that point. With padding the rows of the map are made to
sum to 1 as well. Rounds are 30 to 50 in the first three layers, 5 to 10 in the middle, 1 in the last three: `rounds_at`
takes 32, 8 and 1.
"""

from __future__ import annotations

import math

import numpy as np

from .rows import Floats, Rows, Step, cosine, dropped, highest, padding_first

LEAST_VARIANCE, MOST_VARIANCE = 0.01, 0.7


def rounds_at(block: int, blocks: int) -> int:
    if block < 3:
        return 32
    return 1 if block >= blocks - 3 else 8


def page_rank(attention: Floats, class_token: bool, rounds: int) -> Floats:
    """[H, n] score of every head, mean 1 over the rows, for a map [H, n, n]."""
    n = attention.shape[1]
    start = np.ones(n)
    if class_token:
        start[0] = math.sqrt(n)
    start *= n / start.sum()
    scores = []
    for head in attention:
        stochastic = head / head.sum(axis=1, keepdims=True)
        score = start
        for _ in range(rounds):
            score = stochastic.T @ score
        scores.append(score)
    return np.stack(scores)


def over_heads(scores: Floats) -> Floats:
    """[H, n] -> [n]: root mean square over the heads whose variance is in bounds; over all where none is."""
    passing = [s for s in scores if LEAST_VARIANCE <= float(np.var(s)) <= MOST_VARIANCE]
    chosen = np.stack(passing) if passing else scores
    return np.asarray(np.sqrt((chosen**2).mean(axis=0)))


def similar_ones(rows: Rows, score: Floats, count: int) -> list[int]:
    """S: the rows of the less important half that are most like a row of the other half."""
    ranked = highest(rows.patches, score)
    half = len(ranked) // 2
    more, less = ranked[: len(ranked) - half], ranked[len(ranked) - half :]
    likeness = {i: max(cosine(rows.k[i], rows.k[j]) for j in more) for i in less}
    return highest(less, likeness)[:count]


def act(rows: Rows, count: int, *, rounds: int = 32, similar: int | None = None) -> Step:
    leaving = len(rows.patches) - count
    share = leaving // 2 if similar is None else similar
    first = over_heads(page_rank(rows.attention, rows.class_token, 1))
    gone = similar_ones(rows, first, min(share, leaving, len(rows.patches) // 2))
    there = [i for i in range(rows.n) if i not in gone]
    left = rows.take(there)
    score = over_heads(page_rank(left.attention, left.class_token, rounds))
    stay = [there[i] for i in highest(left.patches, score)[:count]]
    return dropped(rows, sorted(stay))


step = padding_first(act)
