"""Nodes and small constants under construction: what every graph of edgeprune is written with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


class Nodes:
    """A list of nodes in topological order; values are named by strings, as in ONNX itself."""

    def __init__(self, prefix: str = "") -> None:
        """prefix: of names that are made up here, where nodes come from another graph too."""
        self._prefix = prefix
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        *,
        name: str | None = None,
        domain: str = "",
        outputs: int = 1,
        **attributes: Any,
    ) -> str:
        """Append a node and return its first output; further outputs are `<first>_1`, `<first>_2` ..."""
        first = name or f"{self._prefix}{op.lower()}_{len(self._nodes)}"
        names = [first] + [f"{first}_{i}" for i in range(1, outputs)]
        self._nodes.append(helper.make_node(op, list(inputs), names, name=first, domain=domain, **attributes))
        return first

    def named_outputs(
        self, op: str, inputs: Sequence[str], names: Sequence[str], *, domain: str = "", **attributes: Any
    ) -> None:
        """Append a node whose outputs have given names ('' for one that is not wanted)."""
        self._nodes.append(helper.make_node(op, list(inputs), list(names), name=names[0], domain=domain, **attributes))

    def constant(self, name: str, array: np.ndarray) -> str:
        """A small tensor kept inside the graph file; equal names are stored once."""
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def integers(self, *values: int) -> str:
        return self.constant("i64_" + "_".join(str(v) for v in values), np.asarray(values, np.int64))
