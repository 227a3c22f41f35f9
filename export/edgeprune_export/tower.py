"""The vision tower as one static graph over one tile.

A picture's tiles are run one after the other through the same graph, so every tile grid, including the thumbnail alone, shares it.
Blocks after the feature layer are not built. All tokens but the class token
go on, as in LLaVA. The class token's attention is a side branch that computes one query row; the main
attention stays fused and no N x N map is materialised.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edgeprune.errors import CheckpointError
from edgeprune.models.spec import TowerSpec
from edgeprune_export.graph import CONTRIB, Graph
from edgeprune_export.linear import Precision, Reader, linear, store_linear, store_vectors
from edgeprune_export.weights import WeightsWriter


def store_tower(
    writer: WeightsWriter, read: Reader, spec: TowerSpec, blocks: int, precision: Precision
) -> Iterator[str]:
    """Stream the first `blocks` blocks into the weights file, yielding after each for progress."""
    store_vectors(writer, read, ["tower.patch.weight", "tower.position"])
    prefix = ("tower.class_token", "tower.distillation_token")[: spec.prefix_tokens]
    writer.add("tower.prefix", (row.reshape(1, spec.hidden) for name in prefix for row in read(name)))
    if spec.patch_bias:
        store_vectors(writer, read, ["tower.patch.bias"])
    if spec.pre_norm:
        store_vectors(writer, read, ["tower.pre_norm.weight", "tower.pre_norm.bias"])
    yield "tower.embeddings"
    mlp = ("fc_in", "fc_out") if spec.swiglu else ("fc1", "fc2")
    for i in range(blocks):
        p = f"tower.{i}"
        store_vectors(
            writer, read, [f"{p}.{norm}.{part}" for norm in ("norm1", "norm2") for part in ("weight", "bias")]
        )
        if spec.layer_scale:
            store_vectors(writer, read, [f"{p}.scale1", f"{p}.scale2"])
        store_linear(writer, f"{p}.qkv", read, [f"{p}.q", f"{p}.k", f"{p}.v"], bias=spec.qkv_bias, precision=precision)
        for name in ("o", *mlp):
            store_linear(writer, f"{p}.{name}", read, [f"{p}.{name}"], bias=True, precision=precision)
        yield p


def tower_graph(
    spec: TowerSpec, writer: WeightsWriter, weights_file: str, *, blocks: int, attention_layers: Sequence[int]
) -> Graph:
    """pixels [1, 3, P, P] -> features [1, N, C] after block `blocks - 1` and attention_<i> [1, H, N] for each asked layer."""
    g = Graph("tower", weights_file=weights_file)
    tokens, rows, width = spec.positions - 1, spec.positions, spec.hidden
    pixels = g.input("pixels", "float32", (1, 3, spec.image_px, spec.image_px))
    x = _embed(g, writer, spec, pixels)
    for i in range(blocks):
        p = f"tower.{i}"
        qkv = linear(g, writer, f"{p}.qkv", _norm(g, writer, x, f"{p}.norm1", spec.eps), rows)
        q = g.node("Split", [qkv], axis=1, num_outputs=3, outputs=3)
        if i in attention_layers:
            g.output(_class_attention(g, spec, q, f"{q}_1"), f"attention_{i}", "float32", (1, spec.heads, tokens))
        wide = [g.node("Reshape", [value, g.integers(1, rows, width)]) for value in (q, f"{q}_1", f"{q}_2")]
        mixed = g.node("MultiHeadAttention", wide, domain=CONTRIB, num_heads=spec.heads)
        g.declare(mixed, (1, rows, width))
        attended = linear(g, writer, f"{p}.o", g.node("Reshape", [mixed, g.integers(rows, width)]), rows)
        x = g.node("Add", [x, _scaled(g, writer, spec, attended, f"{p}.scale1")])
        x = g.node("Add", [x, _scaled(g, writer, spec, _mlp(g, writer, spec, p, x, rows), f"{p}.scale2")])
    patches = g.node("Slice", [x, g.integers(1), g.integers(rows), g.integers(0)])
    g.output(g.node("Unsqueeze", [patches, g.integers(0)]), "features", "float32", (1, tokens, width))
    return g


def activation(g: Graph, name: str, x: str, shape: Sequence[int]) -> str:
    """Apply a named activation to x of the given shape."""
    if name in ("quick_gelu", "silu"):  # x * sigmoid(a x): a = 1.702 approximates GELU, a = 1 is SiLU
        alpha = 1.702 if name == "quick_gelu" else 1.0
        return g.declare(g.node("QuickGelu", [x], domain=CONTRIB, alpha=alpha), shape)
    if name == "relu":
        return g.node("Relu", [x])
    if name in ("gelu", "gelu_tanh"):
        return g.node("Gelu", [x], approximate="tanh" if name == "gelu_tanh" else "none")
    raise CheckpointError(f"activation {name!r} has no graph; supported: quick_gelu, gelu, gelu_tanh, relu, silu")


def _embed(g: Graph, writer: WeightsWriter, spec: TowerSpec, pixels: str) -> str:
    bias = [g.weight(writer["tower.patch.bias"])] if spec.patch_bias else []
    strides = [spec.patch_px, spec.patch_px]
    grid = g.node(
        "Conv", [pixels, g.weight(writer["tower.patch.weight"]), *bias], strides=strides, kernel_shape=strides
    )
    columns = g.node("Reshape", [grid, g.integers(spec.hidden, spec.patches**2)])
    patches = g.node("Transpose", [columns], perm=[1, 0])
    x = g.node("Concat", [g.weight(writer["tower.prefix"]), patches], axis=0)
    x = g.node("Add", [x, g.weight(writer["tower.position"])])
    return _norm(g, writer, x, "tower.pre_norm", spec.eps) if spec.pre_norm else x


def _class_attention(g: Graph, spec: TowerSpec, q: str, k: str) -> str:
    """softmax(q_class K^T / sqrt(d)) over all keys, the class column removed: q, k [N + 1, C] -> [1, H, N]."""
    rows, heads, width = spec.positions, spec.heads, spec.head_dim
    row = g.node("Slice", [q, g.integers(0), g.integers(1), g.integers(0)])
    query = g.node("Reshape", [row, g.integers(heads, 1, width)])
    keys = g.node("Transpose", [g.node("Reshape", [k, g.integers(rows, heads, width)])], perm=[1, 2, 0])
    scale = g.constant(f"scale_{width}", np.asarray(width**-0.5, np.float32))
    logits = g.node("MatMul", [g.node("Mul", [query, scale]), keys])
    weights = g.node("Softmax", [logits], axis=-1)
    patches = g.node("Slice", [weights, g.integers(1), g.integers(rows), g.integers(2)])
    return g.node("Reshape", [patches, g.integers(1, heads, rows - 1)])


def _mlp(g: Graph, writer: WeightsWriter, spec: TowerSpec, block: str, x: str, rows: int) -> str:
    h = _norm(g, writer, x, f"{block}.norm2", spec.eps)
    if not spec.swiglu:
        inner = activation(g, spec.activation, linear(g, writer, f"{block}.fc1", h, rows), (rows, spec.mlp))
        return linear(g, writer, f"{block}.fc2", inner, rows)
    both = linear(g, writer, f"{block}.fc_in", h, rows)
    gate = g.node("Split", [both], axis=1, num_outputs=2, outputs=2)
    inner = g.node("Mul", [activation(g, "silu", gate, (rows, spec.mlp)), f"{gate}_1"])
    return linear(g, writer, f"{block}.fc_out", inner, rows)


def _norm(g: Graph, writer: WeightsWriter, x: str, name: str, eps: float) -> str:
    weights = [g.weight(writer[f"{name}.{part}"]) for part in ("weight", "bias")]
    return g.node("LayerNormalization", [x, *weights], axis=-1, epsilon=eps)


def _scaled(g: Graph, writer: WeightsWriter, spec: TowerSpec, x: str, name: str) -> str:
    return g.node("Mul", [x, g.weight(writer[name])]) if spec.layer_scale else x
