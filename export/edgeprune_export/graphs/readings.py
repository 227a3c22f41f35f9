"""What methods read of a block's attention, as side branches of its queries and keys [R, heads * d].

R rows: the class token, if the tower has one, and the patches. What begins with the class token's query needs one. Whatever is per patch is
averaged over the patches of each visual token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from edgeprune.models.spec import TowerSpec
from edgeprune_export.graphs.units import pooled
from edgeprune_export.onnx.graph import Graph
from edgeprune_runtime.registry import Registry


class Branch(NamedTuple):
    """A value of a graph and its shape. token_axes: those along which visual tokens lie."""

    value: str
    shape: tuple[int, ...]
    token_axes: tuple[int, ...] = (-1,)


GraphReading = Callable[[Graph, "Attention"], Branch]


class Attention(NamedTuple):
    """A block's queries and keys [R, heads * d], turned where the tower turns them, the tower as that block sees it, and the patches per
    side of a visual token.

    rows   R; fewer than the tower has where some have left
    where  [patches]: which row behind the class token's holds each patch, the number behind the last where none does; None: all are
           there, in order
    bias   [R]: added to the logits of each key
    """

    spec: TowerSpec
    merge: int
    q: str
    k: str
    rows: int
    where: str | None = None
    bias: str | None = None

    @property
    def units(self) -> int:
        """Visual tokens of what the tower looks at."""
        return self.spec.tokens // self.merge**2

    @property
    def patches(self) -> int:
        """Rows without the class token's."""
        return self.rows - self.spec.class_tokens


def class_rows(g: Graph, at: Attention) -> Branch:
    """softmax(q_class K^T / sqrt(d)) per head, over all keys, the class column removed: [1, H, N]."""
    rows, heads, width = at.rows, at.spec.heads, at.spec.head_dim
    query = g.node("Reshape", [_class(g, at.q), g.integers(heads, 1, width)])
    keys = g.node("Transpose", [g.node("Reshape", [at.k, g.integers(rows, heads, width)])], perm=[1, 2, 0])
    weights = _attention(g, at, query, keys, width, 2)
    shape = (1, heads, at.units)
    if at.merge == 1 and at.where is None:
        return Branch(g.node("Reshape", [weights, g.integers(*shape)]), shape)
    flat = g.node("Reshape", [weights, g.integers(1, heads, at.patches)])
    return Branch(_pooled(g, at, flat, (1, heads)), shape)


def wide_row(g: Graph, at: Attention) -> Branch:
    """softmax(q_class K^T / sqrt(heads * d)) with one head over the full width, the class column removed: [1, N]."""
    weights = _attention(g, at, _class(g, at.q), g.node("Transpose", [at.k], perm=[1, 0]), at.spec.inner, 1)
    return Branch(_pooled(g, at, weights, (1,)), (1, at.units))


def mean_map(g: Graph, at: Attention) -> Branch:
    """Attention of every query, mean over heads, the class column removed: [1, R, N], R visual tokens behind the class token's row."""
    rows, spec = at.rows, at.spec
    mean = g.node("ReduceMean", [_all_attention(g, at), g.integers(0)], keepdims=1)  # [1, R, patches]
    if at.merge == 1 and at.where is None:
        return Branch(mean, (1, rows, spec.tokens), (1, 2))
    columns = _pooled(g, at, mean, (1, rows))
    patches = without_class(g, spec, columns, 1, rows)
    asking = g.node("Transpose", [patches], perm=[0, 2, 1])
    units = g.node("Transpose", [_pooled(g, at, asking, (1, at.units))], perm=[0, 2, 1])
    if spec.class_tokens:
        first = g.node("Slice", [columns, g.integers(0), g.integers(1), g.integers(1)])
        units = g.node("Concat", [first, units], axis=1)
    return Branch(units, (1, spec.class_tokens + at.units, at.units), (1, 2))


def received(g: Graph, at: Attention) -> Branch:
    """Attention that each token receives, mean over heads and over the tokens that ask: [1, N]."""
    asking = without_class(g, at.spec, _all_attention(g, at), 1, at.rows)
    mean = g.node("ReduceMean", [asking, g.integers(0, 1)], keepdims=0)
    row = g.node("Reshape", [mean, g.integers(1, at.patches)])
    return Branch(_pooled(g, at, row, (1,)), (1, at.units))


def keys(g: Graph, at: Attention) -> Branch:
    """Key projections without the class token: [1, N, H, d]."""
    spec, units = at.spec, at.units
    rows = without_class(g, spec, at.k, 0, at.rows)
    if at.merge > 1 or at.where is not None:
        turned = g.node("Transpose", [rows], perm=[1, 0])
        rows = g.node("Transpose", [_pooled(g, at, turned, (spec.inner,))], perm=[1, 0])
    shape = (1, units, spec.heads, spec.head_dim)
    return Branch(g.node("Reshape", [rows, g.integers(*shape)]), shape, (1,))


#: One row per reading that is made in a block, by its name in `edgeprune.tokens.readings.READINGS`.
GRAPH_READINGS: Registry[GraphReading] = Registry("reading's graph")
for _name, _build in (
    ("attention", class_rows),
    ("wide", wide_row),
    ("map", mean_map),
    ("received", received),
    ("keys", keys),
):
    GRAPH_READINGS.add(_name, _build)


def without_class(g: Graph, spec: TowerSpec, x: str, axis: int, rows: int | None = None) -> str:
    """x without the class token's entry, the first of R along `axis`; x itself where the tower has none. rows: R, where some have left"""
    if not spec.class_tokens:
        return x
    return g.node("Slice", [x, g.integers(1), g.integers(rows or spec.positions), g.integers(axis)])


def spread(g: Graph, x: str, leading: tuple[int, ...], where: str) -> str:
    """Values of rows at their patches, zero where a row left: x [*leading, n] -> [*leading, patches]."""
    behind = [*[0] * len(leading), 1]
    padded = g.node("Pad", [x, g.integers(*[0] * (len(leading) + 1), *behind)])
    return g.node("Gather", [padded, where], axis=len(leading))


def _pooled(g: Graph, at: Attention, x: str, leading: tuple[int, ...]) -> str:
    if at.where is not None:
        x = spread(g, x, leading, at.where)
    return pooled(g, x, leading, at.spec.grid, at.merge)


def _class(g: Graph, q: str) -> str:
    return g.node("Slice", [q, g.integers(0), g.integers(1), g.integers(0)])


def _all_attention(g: Graph, at: Attention) -> str:
    """Attention of every query in every head, the class column removed: [H, R, patches]."""
    rows, heads, width = at.rows, at.spec.heads, at.spec.head_dim
    shape = g.integers(rows, heads, width)
    queries = g.node("Transpose", [g.node("Reshape", [at.q, shape])], perm=[1, 0, 2])
    keys = g.node("Transpose", [g.node("Reshape", [at.k, shape])], perm=[1, 2, 0])
    return _attention(g, at, queries, keys, width, 2)


def _attention(g: Graph, at: Attention, queries: str, keys: str, width: int, axis: int) -> str:
    """softmax(queries keys / sqrt(width)) over all keys, then without the class column; keys lie along `axis`."""
    scale = g.constant(f"scale_{width}", np.asarray(width**-0.5, np.float32))
    logits = g.node("MatMul", [g.node("Mul", [queries, scale]), keys])
    if at.bias is not None:
        logits = g.node("Add", [logits, at.bias])
    return without_class(g, at.spec, g.node("Softmax", [logits], axis=-1), axis, at.rows)
