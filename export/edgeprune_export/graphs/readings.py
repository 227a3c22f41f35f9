"""What methods read of a block's attention, as side branches of its queries and keys [R, heads * d]. `spec` is the tower as the block sees it.

R rows: the class token, if the tower has one, and N visual tokens. What begins with the class token's query needs one.
"""

from __future__ import annotations

import numpy as np

from edgeprune.models.spec import TowerSpec
from edgeprune_export.onnx.graph import Graph


def class_rows(g: Graph, spec: TowerSpec, q: str, k: str) -> str:
    """softmax(q_class K^T / sqrt(d)) per head, over all keys, the class column removed: [1, H, N]."""
    rows, heads, width = spec.positions, spec.heads, spec.head_dim
    query = g.node("Reshape", [_class(g, q), g.integers(heads, 1, width)])
    keys = g.node("Transpose", [g.node("Reshape", [k, g.integers(rows, heads, width)])], perm=[1, 2, 0])
    return g.node("Reshape", [_attention(g, spec, query, keys, width, 2), g.integers(1, heads, spec.tokens)])


def wide_row(g: Graph, spec: TowerSpec, q: str, k: str) -> str:
    """softmax(q_class K^T / sqrt(heads * d)) with one head over the full width, the class column removed: [1, N]."""
    return _attention(g, spec, _class(g, q), g.node("Transpose", [k], perm=[1, 0]), spec.inner, 1)


def mean_map(g: Graph, spec: TowerSpec, q: str, k: str) -> str:
    """Attention of every query, mean over heads, the class column removed: [1, R, N]."""
    rows, heads, width = spec.positions, spec.heads, spec.head_dim
    shape = g.integers(rows, heads, width)
    queries = g.node("Transpose", [g.node("Reshape", [q, shape])], perm=[1, 0, 2])
    keys = g.node("Transpose", [g.node("Reshape", [k, shape])], perm=[1, 2, 0])
    return g.node("ReduceMean", [_attention(g, spec, queries, keys, width, 2), g.integers(0)], keepdims=1)


def keys(g: Graph, spec: TowerSpec, k: str) -> str:
    """Key projections without the class token, heads side by side: [1, N, heads * d]."""
    return g.node("Unsqueeze", [without_class(g, spec, k, 0), g.integers(0)])


def without_class(g: Graph, spec: TowerSpec, x: str, axis: int) -> str:
    """x without the class token's entry, the first of R along `axis`; x itself where the tower has none."""
    if not spec.class_tokens:
        return x
    return g.node("Slice", [x, g.integers(1), g.integers(spec.positions), g.integers(axis)])


def _class(g: Graph, q: str) -> str:
    return g.node("Slice", [q, g.integers(0), g.integers(1), g.integers(0)])


def _attention(g: Graph, spec: TowerSpec, queries: str, keys: str, width: int, axis: int) -> str:
    """softmax(queries keys / sqrt(width)) over all keys, then without the class column; keys lie along `axis`."""
    scale = g.constant(f"scale_{width}", np.asarray(width**-0.5, np.float32))
    weights = g.node("Softmax", [g.node("MatMul", [g.node("Mul", [queries, scale]), keys])], axis=-1)
    return without_class(g, spec, weights, axis)
