"""One language-model graph for prefill and decode: the two static graphs differ only in their number of new positions.

An engine made of both has two optimization profiles, each for one fixed shape, and holds the weights once; two engines would hold them
twice. The symbol exists between here and the builder only; what runs has integer shapes.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import numpy_helper

from edgeprune.errors import ExportError

ROWS = "rows"


def joined(prefill: onnx.ModelProto, decode: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The graph of both, its number of new positions symbolic. Raises ExportError where they differ in anything else."""
    if [_kind(node) for node in prefill.graph.node] != [_kind(node) for node in decode.graph.node]:
        raise ExportError("prefill and decode are not the same graph at two lengths; export the bundle again")
    model = onnx.ModelProto()
    model.CopyFrom(prefill)
    model.graph.name = name
    free = _FreeShapes(prefill, decode)
    small = {tensor.name: tensor for tensor in prefill.graph.initializer}
    for node, other in zip(model.graph.node, decode.graph.node, strict=True):
        for place, (mine, theirs) in enumerate(zip(node.input, other.input, strict=True)):
            if mine != theirs:
                node.input[place] = f"{mine}.rows"
                if f"{mine}.rows" not in small:
                    tensor = numpy_helper.from_array(free(mine, theirs), f"{mine}.rows")
                    small[tensor.name] = tensor
                    model.graph.initializer.append(tensor)
    for group, twin in (
        (model.graph.input, decode.graph.input),
        (model.graph.output, decode.graph.output),
        (model.graph.value_info, decode.graph.value_info),
    ):
        other_by_name = {value.name: value for value in twin}
        for value in group:
            _free_dims(value, other_by_name[value.name])
    return model


def static(model: onnx.ModelProto, rows: int) -> onnx.ModelProto:
    """The model with its symbolic inputs and outputs at `rows` positions."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in (*copy.graph.input, *copy.graph.output, *copy.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == ROWS:
                dim.dim_value = rows
    return copy


def symbolic_inputs(model: onnx.ModelProto) -> dict[str, tuple[int | str, ...]]:
    """Inputs that have the symbol, with their dimensions."""
    symbolic = {}
    for value in model.graph.input:
        dims = tuple(d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim)
        if ROWS in dims:
            symbolic[value.name] = dims
    return symbolic


def _kind(node: onnx.NodeProto) -> tuple[str, str, tuple[str, ...]]:
    return node.domain, node.op_type, tuple(node.output)


class _FreeShapes:
    """Two constant shapes that differ in one place, with -1 there."""

    def __init__(self, prefill: onnx.ModelProto, decode: onnx.ModelProto) -> None:
        self._mine, self._theirs = (_small(model.graph.initializer) for model in (prefill, decode))

    def __call__(self, mine: str, theirs: str) -> np.ndarray:
        pair = self._mine.get(mine), self._theirs.get(theirs)
        if pair[0] is not None and pair[1] is not None and pair[0].shape == pair[1].shape:
            differs = pair[0] != pair[1]
            if differs.sum() == 1:
                return np.where(differs, -1, pair[0])
        raise ExportError(
            f"prefill and decode differ in {mine!r} and {theirs!r}, which are not shapes of the two lengths; export the bundle again"
        )


def _small(tensors: Iterable[onnx.TensorProto]) -> dict[str, np.ndarray]:
    return {
        t.name: numpy_helper.to_array(t)
        for t in tensors
        if not t.external_data and t.data_type == onnx.TensorProto.INT64
    }


def _free_dims(value: onnx.ValueInfoProto, other: onnx.ValueInfoProto) -> None:
    for dim, twin in zip(value.type.tensor_type.shape.dim, other.type.tensor_type.shape.dim, strict=True):
        if dim.dim_value != twin.dim_value:
            dim.dim_param = ROWS
