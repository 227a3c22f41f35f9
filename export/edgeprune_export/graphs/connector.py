"""The projector, from tower width to decoder width, wherever a graph needs it."""

from __future__ import annotations

from edgeprune.models.spec import ProjectorSpec
from edgeprune_export.graphs.activation import activation
from edgeprune_export.graphs.linear import Reader, WeightPrecision, linear, store_linear
from edgeprune_export.onnx.graph import Graph
from edgeprune_export.onnx.weights import WeightsWriter


def store_projector(writer: WeightsWriter, read: Reader, spec: ProjectorSpec, precision: WeightPrecision) -> None:
    for name in ("projector.1", "projector.2"):
        store_linear(writer, name, read, [name], bias=spec.bias, precision=precision)


def project(g: Graph, writer: WeightsWriter, spec: ProjectorSpec, x: str, rows: int) -> str:
    """x [rows, C] -> [rows, D]."""
    hidden = linear(g, writer, "projector.1", x, rows)
    return linear(g, writer, "projector.2", activation(g, spec.activation, hidden, (rows, spec.outputs)), rows)
