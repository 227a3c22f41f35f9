"""Types and shapes of all values of a model: ONNX's own inference, read as an `onnx_ir` model.

ONNX infers the bodies of Scan, Loop and If while it infers their node, but older versions do not tell, and none does where an input
of the node is not known. So every body is inferred once more as a graph of its own, fed with what it reads from outside.
Weights are never read: they enter as inputs of their type, and only constants of few elements are looked into.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from edgeprune_export.onnx.walk import attribute, bodies, values_read

SMALL = 64
"""Elements up to which a constant is looked into: shapes, axes, K and zero points; not weights."""
Dim = int | str


def inferred(model: onnx.ModelProto) -> ir.Model:
    """The model with the type of every value that can be known, inside bodies too; its external data need not be there."""
    typed = onnx.ModelProto()
    typed.CopyFrom(model)
    _annotate(typed.graph, {}, {}, typed.opset_import)
    return ir.from_proto(typed)


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without functions of its own."""
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def named_values(graph: ir.Graph) -> dict[str, ir.Value]:
    """Values of the graph by name, those inside bodies not among them."""
    made = (value for node in graph for value in node.outputs)
    values = {value.name: value for value in (*graph.initializers.values(), *graph.inputs, *made)}
    return {name: value for name, value in values.items() if name}


def inner_graphs(node: ir.Node) -> list[ir.Graph]:
    """The graphs inside a node of control flow."""
    entries = node.attributes.values()
    single = [entry.as_graph() for entry in entries if entry.type == ir.AttributeType.GRAPH]
    return single + [graph for e in entries if e.type == ir.AttributeType.GRAPHS for graph in e.as_graphs()]


def element(value: ir.Value | None) -> ir.DataType:
    """Element type of a tensor; UNDEFINED where it is not known, or there is no value."""
    known = value.type if value is not None else None
    return known.dtype if isinstance(known, ir.TensorType) else ir.DataType.UNDEFINED


def dims(value: ir.Value | None) -> tuple[Dim, ...] | None:
    """Dimensions: integers, symbols by name and "?" for those that nobody named; None where the rank is not known."""
    shape = value.shape if value is not None else None
    return None if shape is None else tuple(dim if isinstance(dim, int) else dim.value or "?" for dim in shape)


def small_constant(value: ir.Value | None) -> np.ndarray | None:
    """The elements of a constant of few elements that lies in the graph itself."""
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    if tensor is None or isinstance(tensor, ir.ExternalTensor) or tensor.size > SMALL:
        return None
    return tensor.numpy()


def _annotate(
    graph: onnx.GraphProto,
    outer: Mapping[str, onnx.TypeProto],
    constants: Mapping[str, TensorProto],
    opsets: Sequence[onnx.OperatorSetIdProto],
) -> None:
    """Write what is inferred into `graph`; `outer`, `constants`: types and small constants of the graphs around it."""
    own = {tensor.name: helper.make_tensor_type_proto(tensor.data_type, tensor.dims) for tensor in graph.initializer}
    own |= {value.name: value.type for value in graph.input}
    read = values_read(graph.node).difference(own, *(node.output for node in graph.node))
    around = {name: outer[name] for name in sorted(read) if name in outer}
    light = onnx.GraphProto(name="light", node=graph.node, output=graph.output, value_info=graph.value_info)
    light.input.extend(onnx.ValueInfoProto(name=name, type=known) for name, known in {**around, **own}.items())
    light.initializer.extend(tensor for tensor in graph.initializer if _is_small(tensor))
    light.initializer.extend(tensor for name, tensor in constants.items() if name in around)
    result = onnx.shape_inference.infer_shapes(helper.make_model(light, opset_imports=opsets), data_prop=True).graph
    for mine, theirs in ((graph.value_info, result.value_info), (graph.output, result.output)):
        del mine[:]
        mine.extend(theirs)
    readable = {**outer, **own, **{value.name: value.type for value in (*result.value_info, *result.output)}}
    inside = {**constants, **_small_constants(graph)}
    for node in graph.node:
        for body in bodies(node):
            _annotate(body, readable, inside, opsets)


def _small_constants(graph: onnx.GraphProto) -> dict[str, TensorProto]:
    """Small initializers, and the integers of Constant nodes, by the value's name."""
    constants = {tensor.name: tensor for tensor in graph.initializer if _is_small(tensor)}
    for node in graph.node:
        if node.op_type == "Constant" and (held := _integers(node)) is not None:
            constants[node.output[0]] = numpy_helper.from_array(held, node.output[0])
    return constants


def _integers(node: onnx.NodeProto) -> np.ndarray | None:
    """Integers of a Constant node, in one of the three forms that they have."""
    tensor = attribute(node, "value")
    if tensor is not None:
        whole = tensor.data_type in (TensorProto.INT64, TensorProto.INT32) and _is_small(tensor)
        return numpy_helper.to_array(tensor) if whole else None
    given = attribute(node, "value_ints", attribute(node, "value_int"))
    return None if given is None else np.array(given, np.int64)


def _is_small(tensor: TensorProto) -> bool:
    return tensor.data_location != TensorProto.EXTERNAL and prod(tensor.dims) <= SMALL
