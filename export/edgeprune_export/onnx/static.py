"""Every dimension of every value is an integer, or the export fails."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from edgeprune.errors import ExportError
from edgeprune_export.onnx.shapes import inferred


def check_static(model: onnx.ModelProto) -> None:
    """Fail when any value of the graph has a symbolic, missing or unknown dimension."""
    typed = inferred(model)
    for value in (value for node in typed.graph for value in node.outputs if value.name):
        if value.shape is None:
            raise ExportError(
                f"graph {typed.graph.name}: the shape of {value.name!r} cannot be inferred; declare it where its node is made"
            )
    for graph in typed.graphs():
        for value in (*graph.inputs, *(output for node in graph for output in node.outputs)):
            _require_integers(value, str(typed.graph.name))


def _require_integers(value: ir.Value, graph: str) -> None:
    for axis, dim in enumerate(value.shape or ()):
        if not isinstance(dim, int) or dim < 0:
            what = "unknown" if isinstance(dim, int) else dim.value or "unknown"
            raise ExportError(
                f"graph {graph}: value {value.name!r} has the symbolic dimension {what!r} at axis {axis}; every dimension must"
                " be an integer. Rewrite the method so that shapes follow from the plan, not from data."
            )
