"""What is known of a node before anything is built: element types, shapes, constants, and which values the run decides.

Types and shapes are ONNX's own inference, done once per graph and once per body of Scan, Loop or If (ONNX infers bodies, but does not tell).
Weights are never read: only constants of few elements are looked into. What is not known is said to be unknown, so a rule finds
what is certainly there and no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeprune_export.onnx_pruning.program import attribute

_SMALL = 64
"""Elements up to which a constant is looked into: shapes, axes, K and zero points; not weights."""


@dataclass(frozen=True)
class Scope:
    """The values that nodes of one graph can read, those of the graphs around it included."""

    types: Mapping[str, onnx.TypeProto] = field(default_factory=dict)
    constants: Mapping[str, TensorProto] = field(default_factory=dict)
    fixed: frozenset[str] = frozenset()
    """Values that are the same in every run: constants, shapes, and what is computed from them alone."""


@dataclass(frozen=True)
class NodeFacts:
    """A node with what is known of its values."""

    node: onnx.NodeProto
    scope: Scope

    @property
    def operator(self) -> str:
        """Name of the operator, with its domain where it is not one of ONNX itself."""
        return self.node.op_type if self.node.domain in ("", "ai.onnx") else f"{self.node.domain}:{self.node.op_type}"

    @property
    def results(self) -> list[str]:
        """Names of the outputs that somebody wants."""
        return [name for name in self.node.output if name]

    def name(self, position: int) -> str:
        """Name of an input; '' for one that is not given."""
        return self.node.input[position] if position < len(self.node.input) else ""

    def element(self, value: str) -> int:
        """Element type of a value; UNDEFINED where it is not known."""
        known = self.scope.types.get(value)
        return known.tensor_type.elem_type if known is not None else TensorProto.UNDEFINED

    def shape(self, value: str) -> tuple[int | None, ...] | None:
        """None for a rank that is not known, and in the place of a dimension that is not."""
        known = self.scope.types.get(value)
        if known is None or not known.tensor_type.HasField("shape"):
            return None
        return tuple(d.dim_value if d.HasField("dim_value") else None for d in known.tensor_type.shape.dim)

    def constant(self, value: str) -> np.ndarray | None:
        """The elements of a small constant."""
        known = self.scope.constants.get(value)
        return None if known is None or not _is_small(known) else numpy_helper.to_array(known)


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs inside a node of control flow."""
    for entry in node.attribute:
        if entry.type == onnx.AttributeProto.GRAPH:
            yield entry.g


def scope_of(graph: onnx.GraphProto, outer: Scope, opsets: Sequence[onnx.OperatorSetIdProto]) -> Scope:
    """What nodes of `graph` can read; `outer`: what nodes of the graph around it can."""
    constants = {**outer.constants, **_constants(graph)}
    types = {**outer.types, **_types(graph, outer, opsets)}
    return Scope(types, constants, _fixed(graph, outer.fixed.union(constants)))


def _is_small(tensor: TensorProto) -> bool:
    return tensor.data_location != TensorProto.EXTERNAL and prod(tensor.dims) <= _SMALL


def _constants(graph: onnx.GraphProto) -> dict[str, TensorProto]:
    """Initializers, and the integers that Constant nodes hold, by the value's name."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and (held := _held(node)) is not None:
            found[node.output[0]] = numpy_helper.from_array(held, node.output[0])
    return found


def _held(node: onnx.NodeProto) -> np.ndarray | None:
    """Integers of a Constant node, in one of the three forms that they have."""
    tensor = attribute(node, "value")
    if tensor is not None:
        whole = tensor.data_type in (TensorProto.INT64, TensorProto.INT32) and _is_small(tensor)
        return numpy_helper.to_array(tensor) if whole else None
    given = attribute(node, "value_ints", attribute(node, "value_int"))
    return None if given is None else np.array(given, np.int64)


def _types(
    graph: onnx.GraphProto, outer: Scope, opsets: Sequence[onnx.OperatorSetIdProto]
) -> dict[str, onnx.TypeProto]:
    """Types of a graph's own values. Weights go in as inputs of their type, so nothing big is copied."""
    light = onnx.GraphProto(name="seen", node=graph.node, output=graph.output, value_info=graph.value_info)
    own = {tensor.name: helper.make_tensor_type_proto(tensor.data_type, tensor.dims) for tensor in graph.initializer}
    own |= {value.name: value.type for value in graph.input}
    made = {name for node in graph.node for name in node.output}
    around = {name: known for name, known in outer.types.items() if name not in own and name not in made}
    given = {**around, **own}
    light.input.extend(onnx.ValueInfoProto(name=name, type=known) for name, known in given.items())
    small = [*graph.initializer, *(tensor for name, tensor in outer.constants.items() if name in around)]
    light.initializer.extend(tensor for tensor in small if _is_small(tensor))
    inferred = onnx.shape_inference.infer_shapes(helper.make_model(light, opset_imports=opsets), data_prop=True).graph
    return own | {value.name: value.type for value in (*inferred.value_info, *inferred.output)}


def _fixed(graph: onnx.GraphProto, known: frozenset[str]) -> frozenset[str]:
    """Values that no input reaches except through its shape, which is static; `known`: those of outside, and the constants."""
    fixed = set(known)
    for node in graph.node:
        if node.op_type in ("Shape", "Size", "Constant") or _only_of(node, fixed):
            fixed.update(node.output)
    return frozenset(fixed)


def _only_of(node: onnx.NodeProto, fixed: set[str]) -> bool:
    """A node without inputs draws random numbers; one with a body may read what its inputs do not show."""
    given = [name for name in node.input if name]
    return bool(given) and fixed.issuperset(given) and not any(bodies(node))
