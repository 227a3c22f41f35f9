"""The connector, from merged tower rows to visual tokens, wherever a graph needs it."""

from __future__ import annotations

from edgeprune.models.spec import ConnectorSpec
from edgeprune_export.graphs.activation import activation
from edgeprune_export.graphs.linear import Reader, WeightPrecision, linear, store_linear
from edgeprune_export.graphs.norm import norm, store_norm
from edgeprune_export.onnx.graph import Graph
from edgeprune_export.onnx.weights import WeightsWriter


def store_connector(writer: WeightsWriter, read: Reader, spec: ConnectorSpec, precision: WeightPrecision) -> None:
    """Write its norm and linear layers."""
    if spec.norm is not None:
        store_norm(writer, read, "connector.norm")
    for name in ("connector.1", "connector.2")[: spec.layers]:
        store_linear(writer, name, read, [name], bias=spec.bias, precision=precision)


def project(g: Graph, writer: WeightsWriter, spec: ConnectorSpec, x: str, rows: int) -> str:
    """x [rows, merge^2 C] -> [rows, D]."""
    if spec.norm == "before":  # over the channels of each patch
        patches = g.node("Reshape", [x, g.integers(rows * spec.merge**2, spec.inputs)])
        x = g.node("Reshape", [norm(g, writer, patches, "connector.norm", spec.eps), g.integers(rows, spec.merged)])
    elif spec.norm == "after":
        x = norm(g, writer, x, "connector.norm", spec.eps)
    hidden = linear(g, writer, "connector.1", x, rows)
    if spec.layers == 1:
        return hidden
    return linear(g, writer, "connector.2", activation(g, spec.activation, hidden, (rows, spec.outputs)), rows)
