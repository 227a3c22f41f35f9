"""What one run of a graph does: multiply-accumulates, bytes, nodes. Read from the graph alone; no weight is loaded.

The counts are what a roofline needs (Williams et al. 2009): arithmetic by kind, and the bytes that must move at least once.
Graphs of a bundle are static, so ONNX's shape inference knows every value; the contributed operators that edgeprune writes
(MultiHeadAttention, GroupQueryAttention, DynamicQuantizeMatMul, QuickGelu) carry their output shapes in the file. Limits:
element-wise arithmetic is counted as bytes only, both branches of an `If` count as one run of the first, and attention over
the cache is given per pair of a row and a position, because the graph does not say how full the cache is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import onnx
import onnx_ir as ir

from edgeprune_export.onnx.graph import CONTRIB
from edgeprune_export.onnx.shapes import dims, element, inferred, inner_graphs
from edgeprune_runtime.spec import GraphWork

#: Operators that only rename or regroup what is there.
VIEWS = frozenset({"Reshape", "Identity", "Unsqueeze", "Squeeze", "Flatten", "Constant", "Shape"})
#: Operators that read single rows of a table, not all of it.
ROWS = frozenset({"Gather", "GatherND", "GatherElements", "RotaryEmbedding"})


def count_model(model: onnx.ModelProto) -> GraphWork:
    """Counts of a model with static shapes; its weights need not be loaded."""
    return _count(inferred(model).graph)


def _count(graph: ir.Graph) -> GraphWork:
    weights = set(graph.initializers.values())
    sizes = {value: _bytes(value) for value in _values(graph)}
    macs: Counter[str] = Counter()
    pairs = cache = moved = nodes = inner_peak = 0
    read: set[ir.Value] = set()
    cached: set[ir.Value | None] = set()
    for node in graph:
        inner = inner_graphs(node)
        if inner:
            times, inside = _trips(node), _count(inner[0])
            macs.update({kind: times * value for kind, value in inside.macs.items()})
            moved += times * inside.activation_bytes
            nodes += times * inside.nodes
            inner_peak = max(inner_peak, inside.peak_bytes)
            continue
        given = [value for value in node.inputs if value is not None]
        if (node.domain, node.op_type) == (CONTRIB, "GroupQueryAttention"):
            keys = node.inputs[3]
            _, groups, _, width = _shape(keys)  # past keys [1, G, capacity, D]
            pairs += 2 * _shape(node.inputs[0])[-1]
            cache += 2 * groups * width * _width(keys)
            cached |= {*node.inputs[3:5], *node.outputs[1:3]}
        macs.update(_macs(node, weights))
        if node.op_type not in ROWS or _placed(node):
            read |= weights.intersection(given)
        if node.op_type not in VIEWS:
            nodes += 1
            moved += 2 * sum(sizes.get(value, 0) for value in node.outputs if value not in cached)
    by_type: Counter[str] = Counter()
    for value in (weight for weight in graph.initializers.values() if weight in read):
        by_type[_type_name(element(value))] += _bytes(value)
    peak = max(inner_peak, _peak(graph, {value: size for value, size in sizes.items() if value not in cached}))
    return GraphWork(dict(macs), pairs, dict(by_type), moved, peak, cache, nodes)


def _placed(node: ir.Node) -> bool:
    """True for a rotation without positions: row after row of its tables, all of them."""
    return node.op_type == "RotaryEmbedding" and (len(node.inputs) < 4 or node.inputs[3] is None)


def _values(graph: ir.Graph) -> list[ir.Value]:
    """Values of the graph that a run makes or is given."""
    made = (value for node in graph for value in node.outputs)
    return [value for value in (*graph.inputs, *made) if value.name]


def _macs(node: ir.Node, weights: set[ir.Value]) -> dict[str, int]:
    """Multiply-accumulates of a node by kind; attention over a cache is not among them."""
    operator = (node.domain, node.op_type)
    if operator == ("", "Conv"):
        return {"conv": _elements(node.outputs[0]) * math.prod(_shape(node.inputs[1])[1:])}
    if operator == ("", "ConvTranspose"):
        return {"conv": _elements(node.inputs[0]) * math.prod(_shape(node.inputs[1])[1:])}
    if operator == ("", "Gemm"):
        depth = _shape(node.inputs[0])[0 if node.attributes.get_int("transA", 0) else 1]
        return {_kind(node, weights): _elements(node.outputs[0]) * depth}
    if operator == ("", "MatMul"):
        return {_kind(node, weights): _elements(node.outputs[0]) * _shape(node.inputs[0])[-1]}
    if operator in ((CONTRIB, "DynamicQuantizeMatMul"), (CONTRIB, "MatMulIntegerToFloat"), ("", "MatMulInteger")):
        return {"linear_int8": _elements(node.outputs[0]) * _shape(node.inputs[0])[-1]}
    if operator == (CONTRIB, "MatMulNBits"):
        return {
            f"linear_int{node.attributes.get_int('bits', 4)}": _elements(node.outputs[0]) * _shape(node.inputs[0])[-1]
        }
    if operator in (("", "Attention"), (CONTRIB, "MultiHeadAttention")):
        keys = _shape(node.inputs[1])[-2]
        return {"attention": (_elements(node.inputs[0]) + _elements(node.outputs[0])) * keys}
    return {}


def _kind(node: ir.Node, weights: set[ir.Value]) -> str:
    return "product" if weights.isdisjoint(node.inputs[:2]) else "linear"


def _trips(node: ir.Node) -> int:
    """How often a body runs: the length that a Scan walks over; once where the file does not say."""
    if node.op_type != "Scan":
        return 1
    scanned = node.attributes.get_int("num_scan_inputs", 1)
    axis = (node.attributes.get_ints("scan_input_axes") or [0])[0]
    return _shape(node.inputs[len(node.inputs) - scanned])[axis]


def _peak(graph: ir.Graph, sizes: Mapping[ir.Value, int]) -> int:
    """Most bytes of values that exist at one time when nodes run in order and a value goes after its last reader."""
    order = list(graph)
    last = {value: place for place, node in enumerate(order) for value in node.inputs}
    last |= dict.fromkeys(graph.outputs, len(order))
    alive = {value for value in graph.inputs if value in sizes}
    most = total = sum(sizes[value] for value in alive)
    for place, node in enumerate(order):
        born = {value for value in node.outputs if value in sizes} - alive
        total += sum(sizes[value] for value in born)
        most, alive = max(most, total), alive | born
        gone = {value for value in alive if last.get(value, place) <= place}
        total -= sum(sizes[value] for value in gone)
        alive -= gone
    return most


def _shape(value: ir.Value | None) -> tuple[int, ...]:
    """Dimensions of a value; 0 in the place of one that is not known."""
    return tuple(dim if isinstance(dim, int) else 0 for dim in dims(value) or ())


def _elements(value: ir.Value | None) -> int:
    return math.prod(_shape(value))


def _bytes(value: ir.Value) -> int:
    """0 where the type is not known."""
    return _elements(value) * _width(value)


def _width(value: ir.Value | None) -> int:
    """Bytes of one element."""
    kind = element(value)
    return 0 if kind == ir.DataType.UNDEFINED else int(kind.numpy().itemsize)


def _type_name(kind: ir.DataType) -> str:
    short = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16"}
    name = kind.name.lower()
    return short.get(name, name)
