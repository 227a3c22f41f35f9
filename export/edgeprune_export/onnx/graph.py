"""Write one static-shape ONNX graph by hand.

A `Graph` collects nodes and refers to big tensors by their place in the bundle's one weights file, so that building a graph never
holds weights in memory. Shapes are integers from the start; `model()` checks that none became symbolic.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

from edgeprune.errors import ExportError
from edgeprune_export.onnx.nodes import Nodes
from edgeprune_export.onnx.weights import Stored
from edgeprune_runtime.spec import GraphSpec, TensorSpec

OPSET = 23
IR_VERSION = 11
CONTRIB = "com.microsoft"
_ELEMENT = {
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "int8": TensorProto.INT8,
}


class Graph(Nodes):
    """A graph under construction."""

    def __init__(self, name: str, *, weights_file: str) -> None:
        super().__init__()
        self.name = name
        self._weights_file = weights_file
        self._inputs: list[TensorSpec] = []
        self._outputs: list[TensorSpec] = []
        self._declared: list[TensorSpec] = []
        self._stored: dict[str, int] = {}

    def input(self, name: str, dtype: str, shape: Sequence[int]) -> str:
        """Declare a graph input of a fixed shape."""
        self._inputs.append(TensorSpec(name, dtype, tuple(shape)))
        return name

    def output(self, value: str, name: str, dtype: str, shape: Sequence[int]) -> None:
        """Publish `value` under `name`, with the shape that inference must confirm."""
        if value != name:
            self.node("Identity", [value], name=name)
        self._outputs.append(TensorSpec(name, dtype, tuple(shape)))

    def declare(self, value: str, shape: Sequence[int], dtype: str = "float32") -> str:
        """State the shape of a vendor operator's output, which ONNX cannot infer, so that everything after it is checked."""
        self._declared.append(TensorSpec(value, dtype, tuple(shape)))
        return value

    def weight(self, stored: Stored) -> str:
        """Refer to a tensor of the shared weights file; equal names are referred to once."""
        if stored.name not in self._initializers:
            tensor = TensorProto(name=stored.name, data_type=_ELEMENT[stored.dtype], dims=stored.shape)
            tensor.data_location = TensorProto.EXTERNAL
            place = {"location": self._weights_file, "offset": str(stored.offset), "length": str(stored.nbytes)}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=value)
            self._initializers[stored.name] = tensor
            self._stored[stored.name] = stored.nbytes
        return stored.name

    def splice(self, model: onnx.ModelProto, renames: dict[str, str]) -> None:
        """Append all nodes of another (traced) graph; `renames` maps its inputs and outputs to values of this one."""
        local = {name: f"{model.graph.name}/{name}" for name in _value_names(model.graph)}
        local.update(renames)
        for tensor in model.graph.initializer:
            copy = onnx.TensorProto()
            copy.CopyFrom(tensor)
            copy.name = local[tensor.name]
            self._initializers[copy.name] = copy
        for node in model.graph.node:
            copy_node = _renamed(node, local)
            copy_node.name = f"{model.graph.name}/{node.name}"
            self._nodes.append(copy_node)

    def model(self) -> onnx.ModelProto:
        """The finished, checked model."""
        graph = helper.make_graph(
            self._nodes,
            self.name,
            [_value_info(spec) for spec in self._inputs],
            [_value_info(spec) for spec in self._outputs],
            list(self._initializers.values()),
            value_info=[_value_info(spec) for spec in self._declared],
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="edgeprune")
        check_static(model)
        return model

    def spec(self, file: str) -> GraphSpec:
        return GraphSpec(self.name, file, tuple(self._inputs), tuple(self._outputs), sum(self._stored.values()))


def check_static(model: onnx.ModelProto) -> None:
    """Fail when any value of the graph has a symbolic, missing or unknown dimension."""
    graph = model.graph
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    values = [*graph.input, *graph.output, *graph.value_info, *inferred.value_info]
    for body in (body for node in inferred.node for body in _bodies(node)):
        values += [*body.input, *body.output, *body.value_info]
    shaped = {value.name for value in values if value.type.tensor_type.HasField("shape")}
    for name in (name for node in graph.node for name in node.output if name):
        if name not in shaped:
            raise ExportError(
                f"graph {graph.name}: the shape of {name!r} cannot be inferred; declare it where its node is made"
            )
    for value in values:
        shape = value.type.tensor_type.shape
        for axis, dim in enumerate(shape.dim):
            if not dim.HasField("dim_value") or dim.dim_value < 0:
                what = dim.dim_param or "unknown"
                raise ExportError(
                    f"graph {graph.name}: value {value.name!r} has the symbolic dimension {what!r} at axis {axis}; every dimension must"
                    " be an integer. Rewrite the method so that shapes follow from the plan, not from data."
                )


def _renamed(node: onnx.NodeProto, names: dict[str, str]) -> onnx.NodeProto:
    """A copy of the node with its values renamed, those inside its bodies too."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [names.get(n, n) for n in node.input]
    copy.output[:] = [names.get(n, n) for n in node.output]
    for body in _bodies(copy):
        inner = [_renamed(one, names) for one in body.node]
        del body.node[:]
        body.node.extend(inner)
        for value in (*body.input, *body.output, *body.value_info, *body.initializer):
            value.name = names.get(value.name, value.name)
    return copy


def values_read(graph: onnx.GraphProto) -> set[str]:
    """Names of all values that some node reads, inside bodies too."""
    names = {name for node in graph.node for name in node.input if name}
    return names.union(*(values_read(body) for node in graph.node for body in _bodies(node)))


def _value_info(spec: TensorSpec) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(spec.name, _ELEMENT[spec.dtype], list(spec.shape))


def _value_names(graph: onnx.GraphProto) -> set[str]:
    """All values of a graph and of the bodies inside it."""
    names = {t.name for t in graph.initializer} | {v.name for v in (*graph.input, *graph.output)}
    for node in graph.node:
        names.update(n for n in (*node.input, *node.output) if n)
        for body in _bodies(node):
            names |= _value_names(body)
    return names


def _bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]
