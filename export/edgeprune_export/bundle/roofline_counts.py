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
from collections.abc import Iterable, Mapping

import onnx

from edgeprune_export.onnx_pruning.program import CONTRIB, attribute
from edgeprune_runtime.spec import GraphWork

#: Operators that only rename or regroup what is there.
VIEWS = frozenset({"Reshape", "Identity", "Unsqueeze", "Squeeze", "Flatten", "Constant", "Shape"})
#: Operators that read single rows of a table, not all of it.
ROWS = frozenset({"Gather", "GatherND", "GatherElements", "RotaryEmbedding"})
Shapes = Mapping[str, tuple[int, ...]]


def count_model(model: onnx.ModelProto) -> GraphWork:
    """Counts of a model with static shapes; its weights need not be loaded."""
    return _count(onnx.shape_inference.infer_shapes(model).graph, {})


def _count(graph: onnx.GraphProto, outer: Shapes) -> GraphWork:
    weights = {tensor.name: tensor for tensor in graph.initializer}
    values = [*graph.input, *graph.output, *graph.value_info]
    shapes = {**outer, **{v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}}
    shapes |= {name: tuple(tensor.dims) for name, tensor in weights.items()}
    sizes = {v.name: math.prod(shapes[v.name]) * _width(v.type.tensor_type.elem_type) for v in values}
    macs: Counter[str] = Counter()
    pairs = cache = moved = nodes = inner_peak = 0
    read: set[str] = set()
    cached: set[str] = set()
    for node in graph.node:
        body = next((a.g for a in node.attribute if a.HasField("g")), None)
        if body is not None:
            times, inside = _trips(node, shapes), _count(body, shapes)
            macs.update({kind: times * value for kind, value in inside.macs.items()})
            moved += times * inside.activation_bytes
            nodes += times * inside.nodes
            inner_peak = max(inner_peak, inside.peak_bytes)
            continue
        if (node.domain, node.op_type) == (CONTRIB, "GroupQueryAttention"):
            group = shapes[node.input[3]]  # past keys [1, G, capacity, D]
            pairs += 2 * shapes[node.input[0]][-1]
            cache += 2 * group[1] * group[3] * _element(sizes, shapes, node.input[3])
            cached |= {*node.input[3:5], *node.output[1:3]}
        macs.update(_macs(node, shapes, weights))
        if node.op_type not in ROWS:
            read |= {name for name in node.input if name in weights}
        if node.op_type not in VIEWS:
            nodes += 1
            moved += 2 * sum(sizes.get(name, 0) for name in node.output if name not in cached)
    by_type: Counter[str] = Counter()
    for name in read:
        by_type[_type_name(weights[name].data_type)] += math.prod(weights[name].dims) * _width(weights[name].data_type)
    peak = max(inner_peak, _peak(graph, {name: size for name, size in sizes.items() if name not in cached}))
    return GraphWork(dict(macs), pairs, dict(by_type), moved, peak, cache, nodes)


def _macs(node: onnx.NodeProto, shapes: Shapes, weights: Iterable[str]) -> dict[str, int]:
    """Multiply-accumulates of a node by kind; attention over a cache is not among them."""
    known = set(weights)
    operator = (node.domain, node.op_type)
    if operator == ("", "Conv"):
        return {"conv": math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])}
    if operator == ("", "ConvTranspose"):
        return {"conv": math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])}
    if operator == ("", "Gemm"):
        depth = shapes[node.input[0]][0 if attribute(node, "transA", 0) else 1]
        return {_kind(node, known): math.prod(shapes[node.output[0]]) * depth}
    if operator == ("", "MatMul"):
        return {_kind(node, known): math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]}
    if operator in ((CONTRIB, "DynamicQuantizeMatMul"), (CONTRIB, "MatMulIntegerToFloat"), ("", "MatMulInteger")):
        return {"linear_int8": math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]}
    if operator in (("", "Attention"), (CONTRIB, "MultiHeadAttention")):
        keys = shapes[node.input[1]][-2]
        return {"attention": (math.prod(shapes[node.input[0]]) + math.prod(shapes[node.output[0]])) * keys}
    return {}


def _kind(node: onnx.NodeProto, weights: set[str]) -> str:
    return "linear" if weights.intersection(node.input[:2]) else "product"


def _trips(node: onnx.NodeProto, shapes: Shapes) -> int:
    """How often a body runs: the length that a Scan walks over; once where the file does not say."""
    if node.op_type != "Scan":
        return 1
    scanned = attribute(node, "num_scan_inputs", 1)
    axis = (attribute(node, "scan_input_axes") or [0])[0]
    return int(shapes[node.input[len(node.input) - scanned]][axis])


def _peak(graph: onnx.GraphProto, sizes: Mapping[str, int]) -> int:
    """Most bytes of values that exist at one time when nodes run in order and a value goes after its last reader."""
    last = {name: place for place, node in enumerate(graph.node) for name in node.input}
    last |= {value.name: len(graph.node) for value in graph.output}
    alive = {value.name for value in graph.input if value.name in sizes}
    most = total = sum(sizes[name] for name in alive)
    for place, node in enumerate(graph.node):
        born = {name for name in node.output if name in sizes} - alive
        total += sum(sizes[name] for name in born)
        most, alive = max(most, total), alive | born
        gone = {name for name in alive if last.get(name, place) <= place}
        total -= sum(sizes[name] for name in gone)
        alive -= gone
    return most


def _width(kind: int) -> int:
    return int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize) if kind else 0


def _type_name(kind: int) -> str:
    short = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16"}
    name = str(onnx.TensorProto.DataType.Name(kind)).lower()
    return short.get(name, name)


def _element(sizes: Mapping[str, int], shapes: Shapes, name: str) -> int:
    """Bytes of one element of a value."""
    return sizes[name] // math.prod(shapes[name])
