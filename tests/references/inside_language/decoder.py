"""A decoder of the Llama kind in plain numpy, float64, on a canvas of rows that a layer may see only in part.

RMS norm, grouped-query attention with rotary positions, optional biases, optional norms of queries and keys head by head
(Qwen3), SwiGLU, no mask but causality. Not covered: norms with 1 + weight or after a branch (Gemma), sliding windows,
soft caps, experts, parallel branches.

Which rows a layer sees is a `Stage`. A row that a layer does not see keeps its hidden values and may be seen again later
(LVLM_CSP); with lists that only shrink this is dropping. Two functions say what a cut means, written independently:
`whole_pass` (one long pass over prompt and given continuation, rows left out layer by layer) and `prefill` + `decode`
(row by row on caches of a different length per layer). Their equality is the definition of decoding with cuts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .attention import angles_of, softmax, turned
from .rows import Array


@dataclass(frozen=True, eq=False)
class Layer:
    """Weights of one layer, linear ones [out, in] as checkpoints store them."""

    norm: Array  # [D]
    query: Array  # [H * d, D]
    key: Array  # [G * d, D]
    value: Array  # [G * d, D]
    output: Array  # [D, H * d]
    mlp_norm: Array  # [D]
    gate: Array  # [F, D]
    up: Array  # [F, D]
    down: Array  # [D, F]
    query_bias: Array | None = None
    key_bias: Array | None = None
    value_bias: Array | None = None
    output_bias: Array | None = None
    query_norm: Array | None = None  # [d], before the rotation
    key_norm: Array | None = None  # [d]


@dataclass(frozen=True, eq=False)
class Decoder:
    """Layers, last norm, head, and what the weights' shapes do not say."""

    layers: Sequence[Layer]
    norm: Array  # [D]
    head: Array  # [V, D]
    width: int  # d, of a head
    frequencies: Array  # [d / 2]
    eps: float = 1e-6


@dataclass(frozen=True)
class Stage:
    """From layer `first` on (up to the next stage) these rows of the prompt are seen; ascending.

    `merged`: a row takes a weighted sum of hidden rows, once, just before layer `first` (all sums of what was there before).
    """

    first: int
    rows: tuple[int, ...]
    merged: Mapping[int, Mapping[int, float]] = field(default_factory=dict)


@dataclass
class LayerCache:
    """What one layer keeps: rotated keys and values, one [G, d] per row seen."""

    keys: list[Array] = field(default_factory=list)
    values: list[Array] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Reading:
    """What one layer saw and made, place by place: place p is row `rows[p]` of the canvas."""

    rows: list[int]
    positions: list[int]
    hidden: Array  # [n, D] as it came in
    queries: Array  # [n, H * d] rotated
    keys: Array  # [G, n, d] rotated
    values: Array  # [G, n, d]
    normed: Array  # [n, D] what attention reads
    attended: Array  # [n, D] what attention adds
    mlp_normed: Array  # [n, D] what the MLP reads
    activation: Array  # [n, F] silu(gate(x))
    mlp: Array  # [n, D] what the MLP adds

    @property
    def after(self) -> Array:
        """[n, D] what the next layer gets."""
        return self.hidden + self.attended + self.mlp


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    wide = np.asarray(x, dtype=np.float64)
    return np.asarray(wide / np.sqrt((wide**2).mean(axis=-1, keepdims=True) + eps) * weight)


def silu(x: Array) -> Array:
    return np.asarray(x / (1 + np.exp(-x)))


def _linear(x: Array, weight: Array, bias: Array | None) -> Array:
    made = x @ np.asarray(weight, dtype=np.float64).T
    return np.asarray(made if bias is None else made + bias)


def query_key_value(layer: Layer, normed: Array, angles: Array, width: int, eps: float) -> tuple[Array, Array, Array]:
    """Queries [n, H * d] and keys [G, n, d], both rotated, and values [G, n, d] of normed rows [n, D]."""

    def heads(x: Array, norm: Array | None) -> Array:
        split = x.reshape(len(x), -1, width).transpose(1, 0, 2)
        return split if norm is None else rms_norm(split, norm, eps)

    query = turned(heads(_linear(normed, layer.query, layer.query_bias), layer.query_norm), angles)
    key = turned(heads(_linear(normed, layer.key, layer.key_bias), layer.key_norm), angles)
    value = heads(_linear(normed, layer.value, layer.value_bias), None)
    return query.transpose(1, 0, 2).reshape(len(normed), -1), key, value


def _mlp(layer: Layer, normed: Array) -> tuple[Array, Array]:
    activation = silu(_linear(normed, layer.gate, None))
    return activation, _linear(activation * _linear(normed, layer.up, None), layer.down, None)


def layer_over(model: Decoder, number: int, hidden: Array, rows: list[int], positions: list[int]) -> Reading:
    """One layer over n rows [n, D] at once: a full matrix of scores with what lies ahead masked out."""
    layer = model.layers[number]
    n = len(hidden)
    normed = rms_norm(hidden, layer.norm, model.eps)
    angles = angles_of(positions, model.frequencies)
    queries, keys, values = query_key_value(layer, normed, angles, model.width, model.eps)
    share = queries.shape[1] // model.width // len(keys)
    ahead = np.triu(np.full((n, n), -np.inf), 1)
    mixed = []
    for h in range(queries.shape[1] // model.width):
        mine = queries[:, h * model.width : (h + 1) * model.width]
        mixed.append(softmax(mine @ keys[h // share].T / math.sqrt(model.width) + ahead) @ values[h // share])
    attended = _linear(np.concatenate(mixed, axis=1), layer.output, layer.output_bias)
    mlp_normed = rms_norm(hidden + attended, layer.mlp_norm, model.eps)
    activation, mlp = _mlp(layer, mlp_normed)
    return Reading(
        list(rows), list(positions), hidden, queries, keys, values, normed, attended, mlp_normed, activation, mlp
    )


def rows_of_layer(stages: Sequence[Stage], layer: int, length: int) -> list[int]:
    """Rows of the prompt that a layer sees: those of the last stage that starts at or before it; all before the first."""
    rows = list(range(length))
    for stage in sorted(stages, key=lambda stage: stage.first):
        if stage.first <= layer:
            rows = list(stage.rows)
    if rows != sorted(set(rows)) or not rows or rows[-1] != length - 1 or rows[0] < 0:
        raise ValueError(f"layer {layer}: rows ascend, once each, and the prompt's last row stays: {rows}")
    return rows


def places_in_time(rows: Sequence[int], positions: Sequence[int], renumber: bool) -> list[int]:
    """Positions of some rows: their own (kept), or 0, 1, 2 ... (renumbered stage by stage)."""
    return list(range(len(rows))) if renumber else [int(positions[row]) for row in rows]


def merged_rows(stages: Sequence[Stage], layer: int, canvas: Sequence[Array] | Array) -> dict[int, Array]:
    """What merged rows hold before a layer; nothing where no stage starts at it."""
    found: dict[int, Array] = {}
    for stage in stages:
        if stage.first == layer:
            for row, weights in stage.merged.items():
                parts = [weight * np.asarray(canvas[other], dtype=np.float64) for other, weight in weights.items()]
                found[row] = np.sum(parts, axis=0)
    return found


def logits_of(model: Decoder, hidden: Array) -> Array:
    return _linear(rms_norm(hidden, model.norm, model.eps), model.head, None)


def whole_pass(
    model: Decoder,
    embeds: Array,
    positions: Sequence[int],
    length: int,
    stages: Sequence[Stage],
    renumber: bool = False,
) -> tuple[Array, list[Reading]]:
    """Prompt and given continuation in one pass with the same rows left out: logits [1 + T, V], readings per layer.

    `embeds` [length + T, D] are the prompt's rows and then T given tokens; `positions` as long. Logits are those of the
    prompt's last row and of the T tokens. A layer sees the rows of its stage and every token of the continuation.
    """
    canvas = np.array(embeds, dtype=np.float64)
    readings = []
    for number in range(len(model.layers)):
        for row, value in merged_rows(stages, number, canvas).items():
            canvas[row] = value
        rows = rows_of_layer(stages, number, length) + list(range(length, len(canvas)))
        reading = layer_over(model, number, canvas[rows], rows, places_in_time(rows, positions, renumber))
        canvas[rows] = reading.after
        readings.append(reading)
    return logits_of(model, canvas[length - 1 :]), readings


def _one_row(model: Decoder, number: int, x: Array, position: int, cache: LayerCache) -> Array:
    """One layer for one row [D]: its key and value join the cache, then it looks at all that lies there."""
    layer = model.layers[number]
    angles = angles_of([position], model.frequencies)
    query, key, value = query_key_value(layer, rms_norm(x, layer.norm, model.eps)[None], angles, model.width, model.eps)
    cache.keys.append(key[:, 0])
    cache.values.append(value[:, 0])
    heads = query[0].reshape(-1, model.width)
    share = len(heads) // len(key)
    mixed = []
    for h, head in enumerate(heads):
        scores = np.array([head @ past[h // share] for past in cache.keys]) / math.sqrt(model.width)
        mixed.append(np.asarray(softmax(scores) @ np.stack([past[h // share] for past in cache.values])))
    x = x + _linear(np.concatenate(mixed), layer.output, layer.output_bias)
    return np.asarray(x + _mlp(layer, rms_norm(x, layer.mlp_norm, model.eps))[1])


def prefill(
    model: Decoder, embeds: Array, positions: Sequence[int], stages: Sequence[Stage], renumber: bool = False
) -> tuple[Array, list[LayerCache]]:
    """The prompt [S, D] row by row: logits [V] of its last row, and a cache per layer, as long as the rows it saw."""
    canvas: list[Array] = [np.asarray(row, dtype=np.float64) for row in embeds]
    caches = [LayerCache() for _ in model.layers]
    for number, cache in enumerate(caches):
        for row, value in merged_rows(stages, number, canvas).items():
            canvas[row] = value
        rows = rows_of_layer(stages, number, len(canvas))
        for place, row in enumerate(rows):
            position = place if renumber else int(positions[row])
            canvas[row] = _one_row(model, number, canvas[row], position, cache)
    return logits_of(model, canvas[-1]), caches


def decode(model: Decoder, x: Array, position: int, caches: Sequence[LayerCache], renumber: bool = False) -> Array:
    """One further token [D] through all layers: logits [V]; every cache grows by one row.

    Kept positions: the one `position` in every layer (prompt's next position + t). Renumbered: in every layer the number
    of rows that it has seen so far, n_s + t, so the same token has another position in every stage; `position` is unused.
    """
    row: Array = np.asarray(x, dtype=np.float64)
    for number, cache in enumerate(caches):
        row = _one_row(model, number, row, len(cache.keys) if renumber else position, cache)
    return logits_of(model, row)
