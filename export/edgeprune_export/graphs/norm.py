"""Layer and RMS norms over stored weights."""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune_export.graphs.linear import Reader, store_vectors
from edgeprune_export.onnx.graph import Graph
from edgeprune_export.onnx.weights import WeightsWriter


def norm_parts(kind: str) -> Sequence[str]:
    """What a norm of this kind ("layer" or "rms") stores."""
    return ("weight", "bias") if kind == "layer" else ("weight",)


def store_norm(writer: WeightsWriter, read: Reader, name: str, kind: str = "layer") -> None:
    store_vectors(writer, read, [f"{name}.{part}" for part in norm_parts(kind)])


def norm(g: Graph, writer: WeightsWriter, x: str, name: str, eps: float, kind: str = "layer") -> str:
    """x [rows, C] normed with the stored weights `name`."""
    weights = [g.weight(writer[f"{name}.{part}"]) for part in norm_parts(kind)]
    op = "LayerNormalization" if kind == "layer" else "RMSNormalization"
    return g.node(op, [x, *weights], axis=-1, epsilon=eps)
