"""torch's exporter reads its table of operators anew for every graph, which is nearly half of what a small export takes.

Tests export hundreds of small graphs, so here the table is read once per process. It depends on the opset and on nothing else;
each export gets a copy of its own to register further operators in.
"""

from __future__ import annotations

import functools
from typing import Any


@functools.cache
def read_once() -> None:
    """From now on the table is read once; without effect where torch keeps it elsewhere than in the version of constraints.txt."""
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry
    except ImportError:
        return
    registry: Any = ONNXRegistry
    read = functools.cache(registry.from_torchlib)

    def from_torchlib(*opset: int, **named: int) -> Any:
        whole, own = read(*opset, **named), registry()
        own._opset_version = whole._opset_version
        own.functions = {operator: list(translations) for operator, translations in whole.functions.items()}
        return own

    registry.from_torchlib = staticmethod(from_torchlib)
