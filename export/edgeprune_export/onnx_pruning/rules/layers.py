"""Rules of operators that contract: convolutions, matrix products and attention."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from edgeprune_export.onnx.walk import attribute
from edgeprune_export.onnx_pruning.program import Axis, Program
from edgeprune_export.onnx_pruning.rules.relations import Cells, Frozen, Relation, RelationRule, Same, broadcast, freeze


def conv(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """x [N, C, ...], weight [O, C / g, ...] -> [N, O, ...]. A group of a grouped convolution stays or leaves as a whole."""
    x, weight, out = node.input[0], node.input[1], node.output[0]
    yield Same(Axis(out, 1), Axis(weight, 0))
    if attribute(node, "group", 1) == 1:
        yield Same(Axis(x, 1), Axis(weight, 1))
    yield from _convolved(node, program)


def conv_transpose(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """x [N, C, ...], weight [C, O / g, ...] -> [N, O, ...]. In groups as `conv`."""
    x, weight, out = node.input[0], node.input[1], node.output[0]
    yield Same(Axis(x, 1), Axis(weight, 0))
    if attribute(node, "group", 1) == 1:
        yield Same(Axis(out, 1), Axis(weight, 1))
    yield from _convolved(node, program)


def _convolved(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """What both kinds share: batch, places, bias, and groups, inside which the second axis of the weight lies."""
    x, weight, out = node.input[0], node.input[1], node.output[0]
    groups = attribute(node, "group", 1)
    yield Same(Axis(x, 0), Axis(out, 0))
    for axis in (*program.axes(x)[2:], *program.axes(out)[2:], *program.axes(weight)[2:]):
        yield Frozen(axis, node.op_type)
    if len(node.input) > 2 and node.input[2]:
        yield Same(Axis(out, 1), Axis(node.input[2], 0))
    if groups == 1:
        return
    yield Frozen(Axis(weight, 1), node.op_type)
    inputs, outputs = np.arange(program.shapes[x][1]), np.arange(program.shapes[out][1])
    per_input, per_output = len(inputs) // groups, len(outputs) // groups
    yield Cells(Axis(x, 1), inputs, Axis(out, 1), inputs // per_input * per_output)
    yield Cells(Axis(out, 1), outputs, Axis(out, 1), outputs // per_output * per_output)


def gemm(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """[M, K] x [K, N] + C, either operand possibly transposed."""
    a, b, out = node.input[0], node.input[1], node.output[0]
    inner_a, inner_b = 1 - attribute(node, "transA", 0), attribute(node, "transB", 0)
    yield Same(Axis(a, 1 - inner_a), Axis(out, 0))
    yield Same(Axis(b, 1 - inner_b), Axis(out, 1))
    yield from _contracted(node, program, Axis(a, inner_a), Axis(b, inner_b))
    if len(node.input) > 2 and node.input[2]:
        yield from broadcast(program, node.input[2], out)


def matmul(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """[..., M, K] x [..., K, N] with broadcast axes before; an operand of rank one has K only."""
    a, b, out = node.input[0], node.input[1], node.output[0]
    rank_a, rank_b, rank = (len(program.shapes[name]) for name in (a, b, out))
    yield from _contracted(node, program, Axis(a, rank_a - 1), Axis(b, max(rank_b - 2, 0)))
    tail = (rank_a > 1) + (rank_b > 1)
    if rank_a > 1:
        yield Same(Axis(a, rank_a - 2), Axis(out, rank - tail))
    if rank_b > 1:
        yield Same(Axis(b, rank_b - 1), Axis(out, rank - 1))
    for name, own in ((a, rank_a), (b, rank_b)):
        for i in range(own - 2):
            j = i + (rank - tail) - (own - 2)
            if program.shapes[name][i] == program.shapes[out][j]:
                yield Same(Axis(name, i), Axis(out, j))


def _contracted(node: onnx.NodeProto, program: Program, one: Axis, other: Axis) -> Iterator[Relation]:
    """The axis summed over. Between two activations it, and the width of what is mixed, lie inside a head: heads are not thinned."""
    yield Same(one, other)
    if one.value not in program.constants and other.value not in program.constants:
        yield Frozen(one, node.op_type)
        yield Frozen(program.axes(other.value)[-1], node.op_type)


def attention(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """The operator of opset 23, of rank four [B, H, N, d] or three [B, N, H * d]; with a cache or extra outputs it is not known."""
    query, key, value = node.input[:3]
    out = node.output[0]
    if any(node.input[4:]) or any(node.output[1:]):
        yield from freeze(node, program)
        return
    rank = len(program.shapes[query])
    rows, heads = (2, 1) if rank == 4 else (1, 2)
    for axis in (Axis(query, rows), Axis(key, rows), Axis(value, rows), Axis(out, rows)):
        yield Frozen(axis, node.op_type)
    for name in (query, key, value):
        yield Same(Axis(name, 0), Axis(out, 0))
    if rank == 4:
        for name in (query, key, value, out):
            yield Frozen(Axis(name, 3), node.op_type)
        many, few = program.shapes[query][1], program.shapes[key][1]
    else:
        many, few = attribute(node, "q_num_heads"), attribute(node, "kv_num_heads")
    yield from _heads(program, Axis(query, heads), Axis(out, heads), [Axis(key, heads), Axis(value, heads)], many, few)
    if len(node.input) > 3 and node.input[3]:
        yield from _mask(node, program, Axis(query, heads), many)


def _mask(node: onnx.NodeProto, program: Program, query: Axis, heads: int) -> Iterator[Relation]:
    """mask [B, H, N, M] or broadcast to it: its heads are the query's, the rest stays."""
    axes = program.axes(node.input[3])
    for axis in axes:
        if len(axes) - axis.dim == 3 and program.size(axis) == heads:
            place = np.arange(heads)
            yield Cells(axis, place, query, place * (program.size(query) // heads))
        else:
            yield Frozen(axis, node.op_type)


def contrib_attention(node: onnx.NodeProto, program: Program) -> Iterator[Relation]:
    """MultiHeadAttention of ONNX Runtime on query, key, value [B, N, H * d] and a bias [3 * H * d]; other inputs are not known."""
    plain = len(node.input) > 2 and all(len(program.shapes.get(name, ())) == 3 for name in node.input[:3])
    if not plain or any(node.input[4:]) or any(node.output[1:]):
        yield from freeze(node, program)
        return
    query, key, value = node.input[:3]
    out = node.output[0]
    for name in (query, key, value, out):
        yield Same(Axis(name, 0), Axis(out, 0))
        yield Frozen(Axis(name, 1), node.op_type)
    heads = attribute(node, "num_heads")
    yield from _heads(program, Axis(query, 2), Axis(out, 2), [Axis(key, 2), Axis(value, 2)], heads, heads)
    if len(node.input) > 3 and node.input[3]:
        start = 0
        for name in (query, key, value):
            place = np.arange(program.shapes[name][2])
            yield Cells(Axis(name, 2), place, Axis(node.input[3], 0), place + start)
            start += len(place)


def _heads(program: Program, query: Axis, out: Axis, others: list[Axis], many: int, few: int) -> Iterator[Relation]:
    """Blocks of one head leave together; with fewer key heads, all query heads that share one leave with it."""
    first = np.arange(program.size(query)) // (program.size(query) // many)  # [size]: the head of each element
    for axis, heads in ((query, many), (out, many), *((other, few) for other in others)):
        size = program.size(axis)
        shared = np.arange(size) // (size // heads) // (heads // few)  # [size]: the key head
        anchor = np.searchsorted(first // (many // few), shared)  # [size]: first element of that key head in the query
        yield Cells(axis, np.arange(size), query, anchor)


RULES: dict[str, RelationRule] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": matmul,
    "Attention": attention,
}
CONTRIB_RULES: dict[str, RelationRule] = {"MultiHeadAttention": contrib_attention}
