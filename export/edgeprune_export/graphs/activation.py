"""Named activations as graph nodes."""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune.errors import CheckpointError
from edgeprune_export.onnx.graph import CONTRIB, Graph


def activation(g: Graph, name: str, x: str, shape: Sequence[int]) -> str:
    """Apply a named activation to x of the given shape."""
    if name in ("quick_gelu", "silu"):  # x * sigmoid(a x): a = 1.702 approximates GELU, a = 1 is SiLU
        alpha = 1.702 if name == "quick_gelu" else 1.0
        return g.declare(g.node("QuickGelu", [x], domain=CONTRIB, alpha=alpha), shape)
    if name == "relu":
        return g.node("Relu", [x])
    if name in ("gelu", "gelu_tanh"):
        return g.node("Gelu", [x], approximate="tanh" if name == "gelu_tanh" else "none")
    raise CheckpointError(f"activation {name!r} has no graph; supported: quick_gelu, gelu, gelu_tanh, relu, silu")
