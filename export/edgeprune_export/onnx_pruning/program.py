"""A graph as pruning reads it: shapes known, everything constant folded, one array per weight.

Folding first means that a weight behind a Transpose, or a shape computed from `Shape` nodes, needs no rule of its own. The batch may be
symbolic: the graph is then walked with a batch of one and of two, and what differs depends on the batch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper

from edgeprune_export.onnx.extract import live_nodes
from edgeprune_export.onnx.walk import attribute, values_captured, values_read


class Axis(NamedTuple):
    """One dimension of one value."""

    value: str
    dim: int


@dataclass(frozen=True)
class Program:
    """Computed nodes in order and the constants they read.

    frame      the model without nodes and constants: inputs, outputs, opsets, metadata
    shapes     of every value whose shape is known, constants too, with a batch of one
    constants  weights and folded values by name; vectors are stored once per reader, see `reading.unshared`
    symbolic   dimensions that depend on a symbolic batch
    """

    frame: onnx.ModelProto
    nodes: tuple[onnx.NodeProto, ...]
    shapes: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, np.ndarray]
    symbolic: frozenset[Axis]

    def axes(self, value: str) -> list[Axis]:
        """All dimensions of a value; none where its shape is not known."""
        return [Axis(value, i) for i in range(len(self.shapes.get(value, ())))]

    def size(self, axis: Axis) -> int:
        return self.shapes[axis.value][axis.dim]

    def constant(self, node: onnx.NodeProto, position: int) -> np.ndarray | None:
        """The constant that a node reads at a position; None where it is absent or computed."""
        return self.constants.get(node.input[position]) if len(node.input) > position else None

    @cached_property
    def weights(self) -> dict[str, np.ndarray]:
        """Parameters: constants of a floating-point type with at least one axis. Scalars are settings, not parameters."""
        return {name: array for name, array in self.constants.items() if array.ndim and is_float(array)}

    @property
    def opset(self) -> int:
        """Version of ONNX's own operators."""
        return int(next(entry.version for entry in self.frame.opset_import if entry.domain in ("", "ai.onnx")))

    @property
    def inputs(self) -> list[str]:
        return [value.name for value in self.frame.graph.input]

    @property
    def outputs(self) -> list[str]:
        return [value.name for value in self.frame.graph.output]

    def captured(self) -> set[str]:
        """Values that bodies of control flow read from outside."""
        return values_captured(self.nodes)

    def with_constants(self, changed: Mapping[str, np.ndarray]) -> Program:
        """The same graph with other numbers in some constants of unchanged shape."""
        return replace(self, constants={**self.constants, **changed})

    def model(self) -> onnx.ModelProto:
        """The graph as an ONNX model."""
        return self._model(self.frame, self.nodes, self.constants)

    def part(self, outputs: Collection[str]) -> onnx.ModelProto:
        """The graph as far as it is needed to compute some of its values, which are its outputs then."""
        frame = onnx.ModelProto()
        frame.CopyFrom(self.frame)
        del frame.graph.output[:]
        frame.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        nodes = live_nodes(self.nodes, outputs)
        read = values_read(nodes)
        return self._model(frame, nodes, {name: array for name, array in self.constants.items() if name in read})

    @staticmethod
    def _model(
        frame: onnx.ModelProto, nodes: Iterable[onnx.NodeProto], constants: Mapping[str, np.ndarray]
    ) -> onnx.ModelProto:
        model = onnx.ModelProto()
        model.CopyFrom(frame)
        model.graph.node.extend(nodes)
        for name, array in constants.items():
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        return model


def axes_given(node: onnx.NodeProto, program: Program, position: int) -> list[int] | None:
    """Axes that an operator names as an attribute or, in later opsets, as an input; None where it names none."""
    given = program.constant(node, position)
    named = attribute(node, "axes") if given is None else given.tolist()
    return None if named is None else [int(axis) for axis in named]


def is_float(array: np.ndarray) -> bool:
    """Floating point, bfloat16 and the eight-bit kinds included (their NumPy kind is 'V')."""
    return array.dtype.kind in "fV"
