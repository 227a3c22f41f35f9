"""The connector, from merged tower rows to visual tokens, wherever a graph needs it."""

from __future__ import annotations

from edgeprune.models.spec import ConnectorSpec
from edgeprune_export.graphs.activation import activation
from edgeprune_export.graphs.linear import Reader, WeightPrecision, linear, store_linear
from edgeprune_export.graphs.norm import norm, store_norm
from edgeprune_export.onnx.graph import Graph
from edgeprune_export.onnx.weights import WeightsWriter


def store_connector(
    writer: WeightsWriter, read: Reader, spec: ConnectorSpec, precision: WeightPrecision, name: str = "connector"
) -> None:
    """Write the norm and the linear layers of the connector `name`."""
    if spec.norm is not None:
        store_norm(writer, read, f"{name}.norm", spec.norm_kind)
    for layer in range(1, spec.layers + 1):
        store_linear(writer, f"{name}.{layer}", read, [f"{name}.{layer}"], bias=spec.bias, precision=precision)


def project(g: Graph, writer: WeightsWriter, spec: ConnectorSpec, x: str, rows: int, name: str = "connector") -> str:
    """x [rows, merge^2 C] -> [rows, D], by the connector `name`."""
    if spec.norm == "before":  # over the channels of each patch
        patches = g.node("Reshape", [x, g.integers(rows * spec.merge**2, spec.inputs)])
        x = g.node(
            "Reshape",
            [norm(g, writer, patches, f"{name}.norm", spec.eps, spec.norm_kind), g.integers(rows, spec.merged)],
        )
    elif spec.norm == "after":
        x = norm(g, writer, x, f"{name}.norm", spec.eps, spec.norm_kind)
    hidden = linear(g, writer, f"{name}.1", x, rows)
    if spec.layers == 1:
        return hidden
    return linear(g, writer, f"{name}.2", activation(g, spec.activation, hidden, (rows, spec.middle)), rows)
