"""The language model as three static graphs over one KV cache: prefill (M positions), decode (1 position) and head.

Prefill is chunked: the same graph runs ceil(S / M) times, each run attending to everything already in the cache, so no
language-model graph depends on the token budget. The hidden state of one chosen row leaves the graph; the head turns it into
logits, once, so the largest matrix of a small decoder is neither stored nor multiplied twice. The embedding table is no graph at
all: the host reads rows of the shared weights file. Attention is ONNX Runtime's GroupQueryAttention, which writes the cache in
place when past and present are bound to the same buffer.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeprune.models.spec import DecoderSpec
from edgeprune_export.graphs.linear import Reader, WeightPrecision, is_linear, linear, store_linear, store_vectors
from edgeprune_export.onnx.graph import CONTRIB, Graph
from edgeprune_export.onnx.weights import WeightsWriter


def store_decoder(
    writer: WeightsWriter, read: Reader, spec: DecoderSpec, precision: WeightPrecision, embedding_dtype: str
) -> Iterator[str]:
    """Stream the language model into the weights file, yielding after each layer for progress."""
    shared_head = spec.tied and precision == "fp32"
    writer.add("embed.weight", read("embed.weight"), "float32" if shared_head else embedding_dtype)
    yield "embedding"
    for i in range(spec.layers):
        store_layer(writer, read, spec, f"layers.{i}", precision)
        yield f"layers.{i}"
    store_vectors(writer, read, ["norm.weight"])
    if not shared_head:
        source = "embed" if spec.tied else "head"
        store_linear(writer, "head", read, [source], bias=False, precision=precision)
    yield "head"


def store_layer(writer: WeightsWriter, read: Reader, spec: DecoderSpec, p: str, precision: WeightPrecision) -> None:
    """One decoder layer."""
    norms = ("norm1", "norm2", *(("q_norm", "k_norm") if spec.qk_norm else ()))
    store_vectors(writer, read, [f"{p}.{name}.weight" for name in norms])
    store_linear(
        writer, f"{p}.qkv", read, [f"{p}.q", f"{p}.k", f"{p}.v"], bias=spec.attention_bias, precision=precision
    )
    store_linear(writer, f"{p}.o", read, [f"{p}.o"], bias=spec.output_bias, precision=precision)
    for part in ("gate", "up", "down"):
        store_linear(writer, f"{p}.{part}", read, [f"{p}.{part}"], bias=spec.mlp_bias, precision=precision)


def block_graph(
    name: str,
    spec: DecoderSpec,
    writer: WeightsWriter,
    weights_file: str,
    *,
    rows: int,
    capacity: int,
    layers: tuple[int, int] | None = None,
    deepstack: int = 0,
    gathered_of: int | None = None,
    asked: bool = False,
    active: bool = False,
    changed_from: int | None = None,
) -> Graph:
    """Decoder layers first .. behind - 1 (None: all) over `rows` new positions and a cache of `capacity` positions.

    gathered_of  rows leave before this stage: it takes its own from so many of the stage before
    asked, active, changed_from  the next stage's rows are ranked by what rows of this one's last layer ask for, by what is active in its
                 MLP, or by how much the layers from `changed_from` on change them

    Inputs: embeds [rows, W], where W is D, and D more channels for each layer from `first` on behind which visual tokens enter, or in its
    place states [gathered_of, W] and rows [rows], which of them; position_ids [axes, rows]; row [1], the row whose hidden state is
    returned; last_index [1], the cache index of the last new position; total [1], that plus one; past_key_i / past_value_i
    [1, G_i, capacity, d].
    Outputs: hidden, of the model's last layer [1, D] after the final norm, of any other [rows, W of the next] as it is, without an input
    row; present_key_i / present_value_i, to be bound to the same buffers as the past; query [rows, H d], turned; active [rows, F];
    changed [rows, 4 a layer], as `edgeprune.tokens.inside.rows.changes` has it, of attention and MLP.
    """
    first, behind = layers or (0, spec.layers)
    last = spec.layers - 1
    g = Graph(name, weights_file=weights_file)
    further = max(0, deepstack - first)
    width = spec.hidden * (1 + further)
    if gathered_of is None:
        x = g.input("embeds", "float32", (rows, width))
    else:
        states = g.input("states", "float32", (gathered_of, width))
        x = g.node("Gather", [states, g.input("rows", "int64", (rows,))], axis=0)
    entering: list[str] = []
    if further:
        x = g.node("Split", [x], axis=1, num_outputs=1 + further, outputs=1 + further)
        entering = [f"{x}_{number}" for number in range(1, 1 + further)]
    positions = g.input("position_ids", "int64", (3 if spec.pair_axes else 1, rows))
    row = g.input("row", "int64", (1,)) if behind > last else ""
    last_index = g.input("last_index", "int32", (1,))
    total = g.input("total", "int32", (1,))
    turn = _turning(g, writer, spec, positions)
    changed: list[str] = []
    for i in range(first, behind):
        p, at = f"layers.{i}", spec.at(i)
        cache_shape = (1, at.kv_heads, capacity, at.head_dim)
        past = [g.input(f"past_{kind}_{i}", "float32", cache_shape) for kind in ("key", "value")]
        h = _rms(g, writer, x, f"{p}.norm1.weight", spec.eps)
        joined = linear(g, writer, f"{p}.qkv", h, rows)
        query, key, value = _rotated(g, writer, at, p, joined, turn, rows)
        attended = f"attention_{i}"
        g.named_outputs(
            "GroupQueryAttention",
            [query, key, value, *past, last_index, total],
            [attended, f"present_key_{i}", f"present_value_{i}"],
            domain=CONTRIB,
            num_heads=at.heads,
            kv_num_heads=at.kv_heads,
        )
        g.declare(attended, (1, rows, at.heads * at.head_dim))
        flat = g.node("Reshape", [attended, g.integers(rows, at.heads * at.head_dim)])
        if i == last:  # only one row goes on: the last layer's MLP sees a single position
            flat, x = (g.node("Gather", [value, row], axis=0) for value in (flat, x))
        given = linear(g, writer, f"{p}.o", flat, 1 if i == last else rows)
        if counted := changed_from is not None and i >= changed_from:
            changed += _changes(g, h, given)
        x = g.node("Add", [x, given])
        h = _rms(g, writer, x, f"{p}.norm2.weight", spec.eps)
        activated, given = _swiglu(g, writer, p, h, 1 if i == last else rows, at.mlp)
        if counted:
            changed += _changes(g, h, given)
        x = g.node("Add", [x, given])
        if i - first < len(entering):
            here = entering[i - first]
            x = g.node("Add", [x, g.node("Gather", [here, row], axis=0) if i == last else here])
    for i in range(first, behind):
        for kind in ("key", "value"):
            cache_shape = (1, spec.at(i).kv_heads, capacity, spec.head_dim)
            g.output(f"present_{kind}_{i}", f"present_{kind}_{i}", "float32", cache_shape)
    if asked:
        wide = at.heads * at.head_dim
        g.output(g.node("Reshape", [query, g.integers(rows, wide)]), "query", "float32", (rows, wide))
    if active:
        g.output(activated, "active", "float32", (rows, at.mlp))
    if changed:
        g.output(g.node("Concat", changed, axis=1), "changed", "float32", (rows, len(changed)))
    if behind <= last:
        later = entering[behind - first :]
        handed = g.node("Concat", [x, *later], axis=1) if later else x
        g.output(handed, "hidden", "float32", (rows, spec.hidden * (1 + len(later))))
    else:
        g.output(_rms(g, writer, x, "norm.weight", spec.eps), "hidden", "float32", (1, spec.hidden))
    return g


def head_graph(spec: DecoderSpec, writer: WeightsWriter, weights_file: str) -> Graph:
    """hidden [1, D] -> logits [1, V]; a tied head reads the embedding table."""
    g = Graph("head", weights_file=weights_file)
    hidden = g.input("hidden", "float32", (1, spec.hidden))
    name = "head" if is_linear(writer, "head") else "embed"
    g.output(linear(g, writer, name, hidden, 1), "logits", "float32", (1, spec.vocab))
    return g


def rotary_tables(inverse: np.ndarray, scaling: float, positions: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin [positions, d/2]; `scaling` is yarn's attention factor. Angles in float32, as transformers computes them."""
    angle = np.arange(positions, dtype=np.float32)[:, None] * inverse[None].astype(np.float32)
    return (np.cos(angle) * np.float32(scaling)).astype(np.float32), (np.sin(angle) * np.float32(scaling)).astype(
        np.float32
    )


def angles(g: Graph, writer: WeightsWriter, spec: DecoderSpec, positions: str) -> tuple[str, ...]:
    """Cosines and sines of rows at `positions` [axes, rows]: [1, rows, d/2] each; on three axes each pair's is that of its own axis."""
    tables = g.weight(writer["rotary.cos"]), g.weight(writer["rotary.sin"])
    if not spec.pair_axes:
        return tuple(g.node("Gather", [table, positions], axis=0) for table in tables)
    of_axis = np.arange(3)[:, None, None] == np.asarray(spec.pair_axes)
    chosen = g.constant("pair_axes", of_axis.astype(np.float32))  # [3, 1, d/2]
    taken = [g.node("Mul", [g.node("Gather", [table, positions], axis=0), chosen]) for table in tables]
    return tuple(g.node("ReduceSum", [rows, g.integers(0)], keepdims=1) for rows in taken)


def next_layer(
    g: Graph, writer: WeightsWriter, spec: DecoderSpec, layer: int, states: str, positions: str, rows: int
) -> tuple[str, str]:
    """Queries [1, rows, H d] and keys [1, rows, G d] that a layer would make of rows on their way into it.

    states [rows, W], of which the first D channels are the rows; positions [axes, rows].
    """
    p, at = f"layers.{layer}", spec.at(layer)
    x = g.node("Slice", [states, g.integers(0), g.integers(spec.hidden), g.integers(1)])
    joined = linear(g, writer, f"{p}.qkv", _rms(g, writer, x, f"{p}.norm1.weight", spec.eps), rows)
    query, key, _ = _rotated(g, writer, at, p, joined, _turning(g, writer, spec, positions), rows)
    return query, key


def _turning(g: Graph, writer: WeightsWriter, spec: DecoderSpec, positions: str) -> tuple[str, ...]:
    """Inputs of RotaryEmbedding behind what it turns: tables and positions, or, for positions of three axes, the angles of these rows."""
    if spec.pair_axes:
        return angles(g, writer, spec, positions)
    return g.weight(writer["rotary.cos"]), g.weight(writer["rotary.sin"]), positions


def _rotated(
    g: Graph, writer: WeightsWriter, spec: DecoderSpec, p: str, qkv: str, turn: tuple[str, ...], rows: int
) -> tuple[str, str, str]:
    """Query, key and value [1, rows, heads * d] from their joint projection, query and key normed by head where the model does that,
    and turned by their positions.

    GroupQueryAttention can rotate by itself, but on the CPU it ignores position ids and counts rows (onnxruntime 1.31).
    """
    query, shared = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    wide = g.node("Reshape", [qkv, g.integers(1, rows, query + 2 * shared)])
    turning = g.node("Split", [wide, g.integers(query + shared, shared)], axis=2, outputs=2)
    value = f"{turning}_1"
    if spec.qk_norm:
        turning = _normed_heads(g, writer, spec, p, turning, rows)
    turned = g.node("RotaryEmbedding", [turning, *turn], num_heads=spec.heads + spec.kv_heads)
    parts = g.node("Split", [turned, g.integers(query, shared)], axis=2, outputs=2)
    return parts, f"{parts}_1", value


def _normed_heads(g: Graph, writer: WeightsWriter, spec: DecoderSpec, p: str, joined: str, rows: int) -> str:
    """Queries and keys [1, rows, (H + G) d], each head with an RMS norm of its own weights."""
    widths = [spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim]
    parts = g.node("Split", [joined, g.integers(*widths)], axis=2, outputs=2)
    normed = []
    for value, name, width in zip((parts, f"{parts}_1"), ("q_norm", "k_norm"), widths, strict=True):
        heads = g.node("Reshape", [value, g.integers(rows, width // spec.head_dim, spec.head_dim)])
        heads = _rms(g, writer, heads, f"{p}.{name}.weight", spec.eps)
        normed.append(g.node("Reshape", [heads, g.integers(1, rows, width)]))
    return g.node("Concat", normed, axis=2)


def _rms(g: Graph, writer: WeightsWriter, x: str, weight: str, eps: float) -> str:
    return g.node("RMSNormalization", [x, g.weight(writer[weight])], axis=-1, epsilon=eps)


def _changes(g: Graph, before: str, after: str) -> list[str]:
    """`edgeprune.tokens.inside.rows.changes` of rows [rows, D], column by column [rows, 1]."""
    least = g.constant("least_length", np.asarray(1e-30, np.float32))
    size, made = (
        g.node("Max", [g.node("ReduceL2", [one, g.integers(1)], keepdims=1), least]) for one in (before, after)
    )
    product = g.node("ReduceSum", [g.node("Mul", [before, after]), g.integers(1)], keepdims=1)
    cosine = g.node("Div", [product, g.node("Mul", [size, made])])
    turn = g.node("Exp", [g.node("Sub", [g.constant("one", np.asarray(1, np.float32)), cosine])])
    return [g.node("Mul", [g.node("Div", [made, size]), turn]), turn]


def _swiglu(g: Graph, writer: WeightsWriter, layer: str, x: str, rows: int, width: int) -> tuple[str, str]:
    """What is active [rows, width], and what the MLP gives."""
    # Two products: one joint product is 12 % slower in int8, because of the copy that splits it.
    gate, up = (linear(g, writer, f"{layer}.{part}", x, rows) for part in ("gate", "up"))
    silu = g.node("QuickGelu", [gate], domain=CONTRIB, alpha=1.0)  # x * sigmoid(x): QuickGelu with alpha 1 is SiLU
    g.declare(silu, (rows, width))
    return silu, linear(g, writer, f"{layer}.down", g.node("Mul", [silu, up]), rows)
