"""Rules for attention, in two forms: decomposed over a cache that the host appends to, and fused over a cache that is written in place.

Letters: R new positions, G key/value heads, r query heads that share one, d width, C capacity. `total` [1] is the cache index after the
last new position, so new position i has the index total - R + i.
"""

from __future__ import annotations

import numpy as np
import onnx

from edgeprune_export.engines.lower import MASKED, Lowering
from edgeprune_export.onnx.walk import attributes


def grouped_decomposed(at: Lowering, node: onnx.NodeProto) -> None:
    """Softmax over past and new scores side by side; the new rows [1, G, R, d] leave the graph, for the caller to append.

    The cache is read where it lies: joining it with the new rows would copy all of it in every step.
    """
    query, key, value, past_key, past_value, _, total = node.input
    mixed, present_key, present_value = node.output
    groups, shared, width = _grouping(at, node)
    rows = [
        at.node("Reshape", [query, at.integers(-1, groups, shared, width)], name=f"{mixed}.q"),
        at.node("Reshape", [key, at.integers(-1, 1, groups, width)], name=f"{mixed}.k"),
        at.node("Reshape", [value, at.integers(-1, 1, groups, width)], name=f"{mixed}.v"),
    ]
    q = at.node("Transpose", [_scaled(at, rows[0], width)], name=f"{mixed}.queries", perm=[1, 2, 0, 3])  # [G, r, R, d]
    fresh = []
    for source, kind, old in ((rows[1], "key", present_key), (rows[2], "value", present_value)):
        name = f"new_{kind}_{old.rpartition('_')[2]}"
        made = at.node("Transpose", [at.half(source)], name=name, perm=[1, 2, 0, 3])  # [1, G, R, d]
        fresh.append(at.replace_output(old, made, (1, groups, _rows(at), width)))
    new_key, new_value = fresh
    together = at.node("Reshape", [q, at.integers(1, groups, -1, width)], name=f"{mixed}.together")  # [1, G, r R, d]
    scores = []
    for name, keys, mask in (
        ("past", at.cast_io(past_key), _past_mask(at, past_key, total)),
        ("new", new_key, _causal_mask(at)),
    ):
        columns = at.node("Transpose", [keys], name=f"{mixed}.{name}.columns", perm=[0, 1, 3, 2])
        product = at.node("MatMul", [together, columns], name=f"{mixed}.{name}.product")
        by_head = at.node(
            "Reshape", [product, _by_head(at, name, groups, shared, past_key)], name=f"{mixed}.{name}.heads"
        )
        scores.append(at.node("Add", [by_head, mask], name=f"{mixed}.{name}.scores"))  # [G, r, R, C or R]
    weights = at.node("Softmax", [at.node("Concat", scores, name=f"{mixed}.scores", axis=3)], name=f"{mixed}.p", axis=3)
    capacity = at.integers(_capacity(at, past_key))
    parts = []
    for name, start, end, values in (
        ("past", at.integers(0), capacity, at.cast_io(past_value)),
        ("new", capacity, at.integers(1 << 62), new_value),
    ):
        share = at.node("Slice", [weights, start, end, at.integers(3)], name=f"{mixed}.{name}.share")
        flat = at.node("Reshape", [share, _flat(at, name, groups, past_key)], name=f"{mixed}.{name}.flat")
        parts.append(at.node("MatMul", [flat, values], name=f"{mixed}.{name}.mix"))  # [1, G, r R, d]
    added = at.node("Add", parts, name=f"{mixed}.mix")
    apart = at.node("Reshape", [added, at.integers(groups, shared, -1, width)], name=f"{mixed}.apart")
    rowwise = at.node("Transpose", [apart], name=f"{mixed}.rowwise", perm=[2, 0, 1, 3])
    joined = at.node("Reshape", [rowwise, at.integers(1, -1, groups * shared * width)], name=f"{mixed}.half")
    at.full(joined, mixed)


def grouped_fused(at: Lowering, node: onnx.NodeProto) -> None:
    """TensorScatter writes the new rows into the cache in place, Attention reads it up to each row's own index."""
    query, key, value, past_key, past_value, _, total = node.input
    mixed, present_key, present_value = node.output
    groups, shared, width = _grouping(at, node)
    heads = groups * shared
    start = at.once("start", lambda name: at.node("Sub", [_wide(at, total), _row_count(at)], name=name))
    cache = []
    for source, past, present in ((key, past_key, present_key), (value, past_value, present_value)):
        apart = at.node("Reshape", [source, at.integers(1, -1, groups, width)], name=f"{present}.rows")
        new = at.node("Transpose", [at.half(apart)], name=f"{present}.new", perm=[0, 2, 1, 3])
        at.cast_io(present)
        cache.append(at.node("TensorScatter", [at.cast_io(past), new, start], name=present, axis=-2))
    apart = at.node("Reshape", [query, at.integers(1, -1, heads, width)], name=f"{mixed}.q")
    q = at.node("Transpose", [at.half(apart)], name=f"{mixed}.queries", perm=[0, 2, 1, 3])
    visible = at.once("visible", lambda name: _visible(at, name, start, past_key))
    fused = at.node("Attention", [q, *cache, visible], name=f"{mixed}.fused")  # [1, H, R, d]
    rowwise = at.node("Transpose", [fused], name=f"{mixed}.rowwise", perm=[0, 2, 1, 3])
    joined = at.node("Reshape", [rowwise, at.integers(1, -1, heads * width)], name=f"{mixed}.half")
    at.full(joined, mixed)


def plain_decomposed(at: Lowering, node: onnx.NodeProto) -> None:
    """Attention of a tower, each of B windows by itself: three [B, R, H d], and what is added to the scores, or nothing -> [B, R, H d]."""
    heads, mixed = int(attributes(node)["num_heads"]), node.output[0]
    windows, width = at.shape(node.input[0])[0], at.width(node.input[0]) // heads
    assert isinstance(windows, int)
    apart = [
        at.node("Reshape", [x, at.integers(windows, -1, heads, width)], name=f"{mixed}.{part}")
        for x, part in zip(node.input[:3], "qkv", strict=True)
    ]
    q = at.node("Transpose", [_scaled(at, apart[0], width)], name=f"{mixed}.queries", perm=[0, 2, 1, 3])
    k = at.node("Transpose", [at.half(apart[1])], name=f"{mixed}.columns", perm=[0, 2, 3, 1])
    v = at.node("Transpose", [at.half(apart[2])], name=f"{mixed}.values", perm=[0, 2, 1, 3])
    scores = at.node("MatMul", [q, k], name=f"{mixed}.scores")
    if (added := _added(node)) is not None:
        scores = at.node("Add", [scores, at.half(added)], name=f"{mixed}.biased")
    weights = at.node("Softmax", [scores], name=f"{mixed}.p", axis=-1)
    mix = at.node("MatMul", [weights, v], name=f"{mixed}.mix")
    rowwise = at.node("Transpose", [mix], name=f"{mixed}.rowwise", perm=[0, 2, 1, 3])
    at.full(at.node("Reshape", [rowwise, at.integers(windows, -1, heads * width)], name=f"{mixed}.half"), mixed)


def plain_fused(at: Lowering, node: onnx.NodeProto) -> None:
    """The same as one Attention node."""
    heads, mixed, added = int(attributes(node)["num_heads"]), node.output[0], _added(node)
    inputs = [at.half(name) for name in (*node.input[:3], *([added] if added is not None else []))]
    at.full(at.node("Attention", inputs, name=f"{mixed}.half", q_num_heads=heads, kv_num_heads=heads), mixed)


def grouped_contributed(at: Lowering, node: onnx.NodeProto) -> None:
    """ONNX Runtime's own operator in the graph's kind: on CUDA it takes no float32."""
    mixed, *present = node.output
    given = [at.half(name) for name in node.input[:3]] + [at.cast_io(name) for name in node.input[3:5]]
    outputs = [f"{mixed}.half", *(at.cast_io(name) for name in present)]
    at.named_outputs(node.op_type, [*given, *node.input[5:]], outputs, domain=node.domain, **attributes(node))
    at.full(f"{mixed}.half", mixed)


def plain_contributed(at: Lowering, node: onnx.NodeProto) -> None:
    """The same for a tower's attention."""
    mixed = node.output[0]
    inputs = [at.half(name) if name else "" for name in node.input]
    at.full(at.node(node.op_type, inputs, name=f"{mixed}.half", domain=node.domain, **attributes(node)), mixed)


def _added(node: onnx.NodeProto) -> str | None:
    """What is added to the scores of a tower's attention [1, 1, R, R]; None: nothing."""
    return node.input[5] if len(node.input) > 5 else None


def _grouping(at: Lowering, node: onnx.NodeProto) -> tuple[int, int, int]:
    """(G, r, d)."""
    named = attributes(node)
    heads, groups = int(named["num_heads"]), int(named["kv_num_heads"])
    return groups, heads // groups, at.width(node.input[3])


def _scaled(at: Lowering, x: str, width: int) -> str:
    """x / sqrt(d) in the graph's kind: scaled before the product, scores stay far from float16's limit."""
    return at.node("Mul", [at.half(x), at.scalar(width**-0.5, at.kind)], name=f"{x}.scaled")


def _capacity(at: Lowering, past: str) -> int:
    capacity = at.shape(past)[2]
    assert isinstance(capacity, int)
    return capacity


def _rows(at: Lowering) -> int | str:
    return at.shape("position_ids")[1]


def _wide(at: Lowering, total: str) -> str:
    return at.once("total_i64", lambda name: at.node("Cast", [total], name=name, to=7))


def _row_count(at: Lowering) -> str:
    """R as a value [1]."""

    def make(name: str) -> str:
        return at.node("Slice", [at.node("Shape", ["position_ids"]), at.integers(1), at.integers(2)], name=name)

    return at.once("row_count", make)


def _row_numbers(at: Lowering) -> str:
    """0 ... R - 1."""

    def make(name: str) -> str:
        zero, one = (at.constant(f"i64_scalar_{n}", np.asarray(n, np.int64)) for n in (0, 1))
        count = at.node("Gather", [at.node("Shape", ["position_ids"]), one], axis=0)
        return at.node("Range", [zero, count, one], name=name)

    return at.once("row_numbers", make)


def _iota(at: Lowering, past: str) -> str:
    return at.constant("cache_index", np.arange(_capacity(at, past), dtype=np.int64))


def _additive(at: Lowering, visible: str, name: str) -> str:
    """0 where visible, a large negative number elsewhere."""
    return at.node("Where", [visible, at.scalar(0.0, at.kind), at.scalar(MASKED, at.kind)], name=name)


def _past_mask(at: Lowering, past: str, total: str) -> str:
    """[C]: what was in the cache before."""

    def make(name: str) -> str:
        start = at.once("start", lambda made: at.node("Sub", [_wide(at, total), _row_count(at)], name=made))
        return _additive(at, at.node("Less", [_iota(at, past), start]), name)

    return at.once("past_mask", make)


def _causal_mask(at: Lowering) -> str:
    """[R, R]: new rows up to the own."""

    def make(name: str) -> str:
        rows = _row_numbers(at)
        column = at.node("Unsqueeze", [rows, at.integers(1)])
        return _additive(at, at.node("LessOrEqual", [rows, column]), name)

    return at.once("causal_mask", make)


def _visible(at: Lowering, name: str, start: str, past: str) -> str:
    """[1, 1, R, C] bool: cache index <= the row's own."""
    own = at.node("Unsqueeze", [at.node("Add", [_row_numbers(at), start]), at.integers(1)])
    within = at.node("LessOrEqual", [_iota(at, past), own])
    return at.node("Unsqueeze", [within, at.integers(0, 1)], name=name)


def _by_head(at: Lowering, which: str, groups: int, shared: int, past: str) -> str:
    """The shape [G, r, R, C or R] as a value: R is known only when the graph runs."""
    if which == "past":
        return at.integers(groups, shared, -1, _capacity(at, past))
    return at.once(
        f"shape_{groups}_{shared}_rows",
        lambda name: at.node("Concat", [at.integers(groups, shared, -1), _row_count(at)], name=name, axis=0),
    )


def _flat(at: Lowering, which: str, groups: int, past: str) -> str:
    """The shape [1, G, r R, C or R]."""
    if which == "past":
        return at.integers(1, groups, -1, _capacity(at, past))
    return at.once(
        f"shape_1_{groups}_rows",
        lambda name: at.node("Concat", [at.integers(1, groups, -1), _row_count(at)], name=name, axis=0),
    )
