"""What is known of a node before anything is built: element types, shapes, constants, and which values the run decides.

What is not known is said to be unknown, so a rule finds what is certainly there and no more.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from edgeprune_export.onnx.shapes import dims, element, inner_graphs, small_constant


@dataclass(frozen=True)
class NodeFacts:
    """A node with what is known of its values.

    fixed: values that are the same in every run: constants, shapes, and what is computed from them alone
    """

    node: ir.Node
    fixed: Set[ir.Value] = frozenset()

    @property
    def operator(self) -> str:
        """Name of the operator, with its domain where it is not one of ONNX itself."""
        return f"{self.node.domain}:{self.node.op_type}" if self.node.domain else self.node.op_type

    @property
    def label(self) -> str:
        """Name of the node, or of its first output where it has none."""
        return self.node.name or next(iter(self.results), "")

    @property
    def results(self) -> list[str]:
        """Names of the outputs that somebody wants."""
        return [value.name for value in self.node.outputs if value.name]

    @property
    def values(self) -> list[ir.Value]:
        """All inputs and outputs that there are."""
        return [value for value in (*self.node.inputs, *self.node.outputs) if value is not None]

    def input(self, position: int) -> ir.Value | None:
        """None for an input that is not given."""
        return self.node.inputs[position] if position < len(self.node.inputs) else None

    def element(self, position: int) -> ir.DataType:
        """Element type of an input; UNDEFINED where it is not known."""
        return element(self.input(position))

    def shape(self, position: int) -> tuple[int | None, ...] | None:
        """Dimensions of an input; None for a rank that is not known, and in the place of a dimension that is not."""
        return _integers(self.input(position))

    def made_shape(self) -> tuple[int | None, ...] | None:
        """Dimensions of the first output."""
        return _integers(self.node.outputs[0])

    def constant(self, position: int) -> np.ndarray | None:
        """The elements of an input that is a small constant."""
        return small_constant(self.input(position))

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.node.attributes[name].value if name in self.node.attributes else default


def _integers(value: ir.Value | None) -> tuple[int | None, ...] | None:
    known = dims(value)
    return None if known is None else tuple(dim if isinstance(dim, int) else None for dim in known)


def fixed_values(graph: ir.Graph, outer: Set[ir.Value]) -> frozenset[ir.Value]:
    """Values that no input reaches except through its shape, which is static; `outer`: those of the graphs around."""
    fixed = {*outer, *graph.initializers.values()}
    for node in graph:
        if node.op_type in ("Shape", "Size", "Constant") or _only_of(node, fixed):
            fixed.update(node.outputs)
    return frozenset(fixed)


def _only_of(node: ir.Node, fixed: set[ir.Value]) -> bool:
    """A node without inputs draws random numbers; one with a body may read what its inputs do not show."""
    given = [value for value in node.inputs if value is not None]
    return bool(given) and fixed.issuperset(given) and not inner_graphs(node)
