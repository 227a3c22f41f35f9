"""CoreMatching's token half (paper; repository wangqinsi1/2025-ICML-CoreMatching differs and is not followed).

The repository only zeroes keys and values of rows, in layers 5..18, with positions and a reference row written into it.
The paper: rows leave at layer 2 by the activations of its MLP. Left open: whether before its down projection or behind the
layer; a cut before layer 3 with the activations of layer 2 (from 0) is the plain reading. The neuron half is not covered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .rows import Array, Order, best_first

TOKEN_SHARE = 0.2  # rho
SENTENCE_SHARE = 0.4  # beta


def core_neurons(activation: Array, share: float = TOKEN_SHARE, of_positive: bool = True) -> set[int]:
    """Gamma(x): neurons of the largest positive activations of one row [F] of act(gate(x)), without the factor up(x).

    `of_positive`: the share is of the row's positive activations (the paper's words); otherwise of all F, a count known
    beforehand, and then what is not positive still has no part. Left open: rounding; here `int`, cut off.
    """
    positive = {i: float(a) for i, a in enumerate(activation) if a > 0}
    count = int(share * (len(positive) if of_positive else len(activation)))
    return set(best_first(positive)[:count])


def sentence_core(cores: Sequence[set[int]], neurons: int, share: float = SENTENCE_SHARE) -> set[int]:
    """C: the int(beta * F) neurons that lie in most rows' cores; ties by the lower neuron."""
    count = {i: float(sum(i in core for core in cores)) for i in range(neurons)}
    return set(best_first(count)[: int(share * neurons)])


def overlaps(activations: Array, visual: Sequence[int], length: int, of_positive: bool = True) -> dict[int, int]:
    """c_x = number of neurons that a visual row's core shares with the prompt's; [L, F] activations, rows 0..length-1.

    All rows of the prompt vote for its core, visual rows among them.
    """
    cores = [core_neurons(row, of_positive=of_positive) for row in np.asarray(activations)[:length]]
    sentence = sentence_core(cores, activations.shape[1])
    return {row: len(cores[row] & sentence) for row in visual}


def corematching(overlap: Mapping[int, int]) -> Order:
    """With a fixed count: most shared neurons first. Whole numbers tie often, so the lower row often decides."""
    return best_first({row: float(value) for row, value in overlap.items()})


def knee(values: Sequence[float]) -> int:
    """Place of the point farthest from the chord between the first and last of values in descending order; ties: earlier."""
    last = len(values) - 1
    if last < 1:
        return 0
    slope = values[last] - values[0]
    # |slope * i - last * (v_i - v_0)| is the distance times the chord's length, which is the same for all points.
    away = [abs(slope * i - last * (v - values[0])) for i, v in enumerate(values)]
    return away.index(max(away))


def corematching_published(overlap: Mapping[int, int]) -> list[int]:
    """The paper's count: rows whose overlap is above the knee's ("above" read strictly); ascending."""
    order = corematching(overlap)
    bar = overlap[order[knee([overlap[row] for row in order])]]
    return sorted(row for row in order if overlap[row] > bar)
