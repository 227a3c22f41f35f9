"""TransPrune (repository liaolea/TransPrune): how much a layer changes a row, plus what the question looks at.

Released for 32 layers counted from 1: transitions of layers 7..12, rows leave after layers 7, 9 and 12, of the N visual
rows that entered 0.875, 0.625 and 0.125 stay, positions renumbered after every cut. From 0: cuts before layers 7, 9, 12;
transitions of layers 6..11.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from .attention import question_attention
from .rows import Array, Order, best_first

FIRST_LAYER = 6  # from 0: the first layer whose transitions count
CUTS = (7, 9, 12)  # from 0, before these
SHARES = (0.875, 0.625, 0.125)  # of the rows that entered the language model


def transition(before: Array, after: Array, among: Sequence[int]) -> dict[int, float]:
    """(|out| / |in|) * exp(1 - cos(in, out)) / sum over `among` of exp(1 - cos), for the rows `among` of [L, D].

    `before` is the normed input of attention or MLP, `after` its output *before* the residual is added.
    Left open: over which rows the sum runs ("tokens"); the caller says it. It cancels inside one sub-layer, and not in sums
    over several.
    """
    ratio, change = {}, {}
    for row in among:
        x, y = np.asarray(before[row], dtype=np.float64), np.asarray(after[row], dtype=np.float64)
        size_x, size_y = float(np.linalg.norm(x)), float(np.linalg.norm(y))
        ratio[row] = size_y / size_x
        change[row] = math.exp(1 - float(x @ y) / (size_x * size_y))
    total = math.fsum(change.values())
    return {row: ratio[row] * change[row] / total for row in among}


def layer_transition(
    attention_in: Array, attention_out: Array, mlp_in: Array, mlp_out: Array, among: Sequence[int]
) -> dict[int, float]:
    """TTV of one layer: attention's transition plus the MLP's, equal weights."""
    first = transition(attention_in, attention_out, among)
    second = transition(mlp_in, mlp_out, among)
    return {row: first[row] + second[row] for row in among}


def to_one(score: Mapping[int, float]) -> dict[int, float]:
    total = math.fsum(score.values())
    return {row: value / total for row, value in score.items()}


def transprune(
    transitions: Sequence[Mapping[int, float]],
    queries: Array,
    keys: Array,
    asking: Sequence[int],
    weights: Sequence[float],
    visual: Sequence[int],
) -> Order:
    """Sum of all layers' transitions so far, normed to 1 over the visual rows, plus the attention of all question rows,
    normed alike.

    `transitions` are `layer_transition` of layers `FIRST_LAYER`..j - 1 (earlier layers may know rows that have left since;
    their sums ran over those too). `queries` [R, H * d] and `keys` [G, L, d] are of the *next* layer j, made from the rows
    that arrive with its norm and its rotation; each question row's softmax runs over its whole causal row; mean over heads
    and over the question rows behind the picture (weights 1 / n). TTV alone: leave the second term out.
    """
    moved = to_one({row: math.fsum(layer[row] for layer in transitions) for row in visual})
    asked = to_one(question_attention(queries, keys, asking, weights, visual))
    return best_first({row: moved[row] + asked[row] for row in visual})


def by_transition(transitions: Sequence[Mapping[int, float]], visual: Sequence[int]) -> Order:
    """The ablation without attention."""
    return best_first({row: math.fsum(layer[row] for layer in transitions) for row in visual})
