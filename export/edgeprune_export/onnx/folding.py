"""Shapes and constants of a graph, node by node: ONNX's own inference, fed with every constant met on the way.

Against `shapes.inferred` this needs the weights, and knows what follows from them: shapes that the graph computes, and weights behind a
Transpose. The nodes stay as they are (an optimizer would rewrite them), and one graph can be walked at several input shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgeprune_export.onnx.graph import CONTRIB
from edgeprune_export.onnx.walk import attribute, bodies

# Folding these would change what the graph is: numbers drawn anew, weights that are stored quantised, control flow.
_NEVER_FOLDED = {"DequantizeLinear", "QuantizeLinear", "If", "Loop", "Scan", "Bernoulli", "Multinomial", "Dropout"}
_RANDOM = "Random"
_LARGEST = 1 << 20
"""Elements up to which a folded constant may be larger than what it was made of."""
_AS_FIRST_INPUT = {"Gelu", "FastGelu", "QuickGelu", "BiasGelu"}
"""Operators of ONNX Runtime that have no schema in ONNX and keep the shape of their first input."""


@dataclass
class KnownValues:
    """What is known after the nodes walked so far; one walk fills it."""

    types: dict[str, onnx.TypeProto] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    declared: list[str] = field(default_factory=list)
    """Values whose shape is known only because the graph states it."""

    def shape(self, name: str) -> tuple[int, ...] | None:
        """None where a dimension is not known."""
        tensor = self.types[name].tensor_type if name in self.types else None
        if tensor is None or not tensor.HasField("shape"):
            return None
        if not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            return None
        return tuple(dim.dim_value for dim in tensor.shape.dim)

    def settle(self, name: str, array: np.ndarray) -> None:
        self.constants[name] = array
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        self.types[name] = helper.make_tensor_type_proto(kind, array.shape)


def known_values(
    model: onnx.ModelProto, weights: Mapping[str, np.ndarray], inputs: Mapping[str, tuple[int, ...]]
) -> KnownValues:
    """Shapes and constants of all values, given the arrays of the initializers and the shapes of the inputs."""
    graph = model.graph
    known = KnownValues()
    for name, array in weights.items():
        known.settle(name, array)
    for value in graph.input:
        if value.name in inputs:
            kind = value.type.tensor_type.elem_type
            known.types[value.name] = helper.make_tensor_type_proto(kind, inputs[value.name])
    declared = {value.name: value.type for value in (*graph.value_info, *graph.output)}
    opsets = {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in model.opset_import}
    for node in graph.node:
        known.types.update(_types(node, known, opsets))
        for name in node.output:
            if name and known.shape(name) is None and name in declared:
                known.types[name] = declared[name]
                known.declared.append(name)
        _fold(node, known, opsets)
    return known


def _types(node: onnx.NodeProto, known: KnownValues, opsets: Mapping[str, int]) -> dict[str, onnx.TypeProto]:
    """Types of a node's outputs; nothing for an operator that ONNX does not know or inputs it cannot use."""
    if node.domain == CONTRIB and node.op_type in _AS_FIRST_INPUT and node.input[0] in known.types:
        return {node.output[0]: known.types[node.input[0]]}
    if node.domain == CONTRIB and node.op_type == "MultiHeadAttention":
        return _contrib_attention(node, known)
    if any(name and name not in known.types for name in node.input):
        return {}
    small = {
        name: numpy_helper.from_array(known.constants[name], name)
        for name in node.input
        if name in known.constants and known.constants[name].size <= 1024
    }
    try:
        schema = onnx.defs.get_schema(node.op_type, opsets.get(node.domain, 1), node.domain)
        imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
        # Bodies of control flow may read any value; passing all of them to every node would take quadratic time.
        given = dict(known.types) if any(bodies(node)) else {name: known.types[name] for name in node.input if name}
        return dict(onnx.shape_inference.infer_node_outputs(schema, node, given, small, opset_imports=imports))
    except (onnx.defs.SchemaError, onnx.shape_inference.InferenceError, RuntimeError):
        return {}


def _contrib_attention(node: onnx.NodeProto, known: KnownValues) -> dict[str, onnx.TypeProto]:
    """Query, key and value of rank three: the output has the query's rows and the value's width."""
    query, value = known.shape(node.input[0]), known.shape(node.input[2]) if len(node.input) > 2 else None
    if query is None or value is None or len(query) != 3 or len(value) != 3:
        return {}
    kind = known.types[node.input[0]].tensor_type.elem_type
    return {node.output[0]: helper.make_tensor_type_proto(kind, (*query[:2], value[2]))}


def _fold(node: onnx.NodeProto, known: KnownValues, opsets: Mapping[str, int]) -> None:
    """Record the outputs of a node whose value is known without running the graph."""
    if node.domain or node.op_type in _NEVER_FOLDED or node.op_type.startswith(_RANDOM):
        return
    if node.op_type in ("Shape", "Size"):
        shape = known.shape(node.input[0])
        if shape is not None:
            part = shape[attribute(node, "start", 0) : attribute(node, "end", len(shape))]
            known.settle(node.output[0], np.array(part if node.op_type == "Shape" else int(np.prod(shape)), np.int64))
        return
    given = {name: known.constants[name] for name in node.input if name in known.constants}
    if any(name and name not in given for name in node.input):
        return
    limit = max(_LARGEST, sum(array.size for array in given.values()))
    shapes = [known.shape(name) for name in node.output if name]
    if any(shape is None or int(np.prod(shape)) > limit for shape in shapes):
        return
    for name, array in zip([n for n in node.output if n], _evaluate(node, given, opsets), strict=False):
        known.settle(name, np.asarray(array))


def _evaluate(node: onnx.NodeProto, given: Mapping[str, np.ndarray], opsets: Mapping[str, int]) -> list[np.ndarray]:
    """Results of one node on constants; nothing where ONNX's reference implementation lacks the operator."""
    graph = helper.make_graph(
        [node],
        "fold",
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in given],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output if name],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opsets[""])])
    try:
        return list(ReferenceEvaluator(model).run(None, dict(given)))
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        return []
