"""Write one static-shape ONNX graph by hand.

A `Graph` collects nodes and refers to big tensors by their place in the bundle's one weights file, so that building a graph never
holds weights in memory. Shapes are integers from the start; `model()` checks that none became symbolic.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

from edgeprune_export.onnx.nodes import Nodes
from edgeprune_export.onnx.static import check_static
from edgeprune_export.onnx.walk import renamed, value_names
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
    "uint8": TensorProto.UINT8,
    "float16": TensorProto.FLOAT16,
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
        local = {name: f"{model.graph.name}/{name}" for name in value_names(model.graph)}
        local.update(renames)
        for tensor in model.graph.initializer:
            copy = onnx.TensorProto()
            copy.CopyFrom(tensor)
            copy.name = local[tensor.name]
            self._initializers[copy.name] = copy
        for node in model.graph.node:
            copy_node = renamed(node, local)
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


def _value_info(spec: TensorSpec) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(spec.name, _ELEMENT[spec.dtype], list(spec.shape))
