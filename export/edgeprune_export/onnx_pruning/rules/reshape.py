"""Rules of operators that give the same elements another shape: reshape, transpose, expand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx

from edgeprune_export.onnx.walk import attribute
from edgeprune_export.onnx_pruning.program import Axis, Program
from edgeprune_export.onnx_pruning.rules.relations import (
    Frozen,
    Merged,
    Relation,
    RelationRule,
    Same,
    broadcast,
    freeze,
)


def reshape(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """Reshape, Flatten, Squeeze and Unsqueeze: runs of axes with equal products hold the same elements in the same order."""
    x, out = node.input[0], node.output[0]
    pairs = runs(program.shapes[x], program.shapes[out])
    if pairs is None or (node.op_type == "Reshape" and program.constant(node, 1) is None):
        yield from freeze(node, program)
        return
    for inside, outside in pairs:
        one, other = tuple(Axis(x, i) for i in inside), tuple(Axis(out, i) for i in outside)
        if len(one) == len(other) == 1:
            yield Same(one[0], other[0])
        elif len(one) == 1:
            yield Merged(one[0], other)
        elif len(other) == 1:
            yield Merged(other[0], one)
        else:
            for axis in (*one, *other):
                yield Frozen(axis, node.op_type)


def runs(one: Sequence[int], other: Sequence[int]) -> list[tuple[list[int], list[int]]] | None:
    """Shortest runs of axes longer than one with equal products, side by side; None where the elements do not match."""
    left = [i for i, size in enumerate(one) if size != 1]
    right = [j for j, size in enumerate(other) if size != 1]
    if 0 in one or np.prod(one, dtype=np.int64) != np.prod(other, dtype=np.int64):
        return None
    pairs = []
    while left:
        a, b = [left.pop(0)], [right.pop(0)]
        here, there = one[a[0]], other[b[0]]
        while here != there:
            if here < there:
                a.append(left.pop(0))
                here *= one[a[-1]]
            else:
                b.append(right.pop(0))
                there *= other[b[-1]]
        pairs.append((a, b))
    return pairs


def transpose(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    rank = len(program.shapes[node.input[0]])
    for place, source in enumerate(attribute(node, "perm", list(reversed(range(rank))))):
        yield Same(Axis(node.input[0], source), Axis(node.output[0], place))


def expand(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """A broadcast. Repeated to a symbolic batch its target is computed, and no other axis of it can be rewritten."""
    x, out = node.input[0], node.output[0]
    rank, wide = len(program.shapes[x]), len(program.shapes[out])
    inside = {i + wide - rank for i in range(rank) if Axis(x, i) in program.symbolic}
    if {axis.dim for axis in program.axes(out) if axis in program.symbolic} - inside:
        yield from freeze(node, program)
        return
    yield from broadcast(program, x, out)


RULES: dict[str, RelationRule] = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), reshape),
    "Transpose": transpose,
    "Expand": expand,
}
