"""What a graph declares about shapes: symbols before pruning, and what became known after it."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from edgeprune_export.onnx.folding import KnownValues
from edgeprune_export.onnx_pruning.program import Axis


def stated(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without its weights; lengths of -1 and 0, which exporters write for unknown ones, are symbols without a name."""
    graph = onnx.GraphProto(
        name=model.graph.name,
        doc_string=model.graph.doc_string,
        node=model.graph.node,
        input=model.graph.input,
        output=model.graph.output,
        value_info=model.graph.value_info,
    )
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value < 1:
                dim.ClearField("dim_value")
    return onnx.ModelProto(
        ir_version=max(model.ir_version, 4),  # from version 4 on an initializer need not be an input
        opset_import=model.opset_import,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        domain=model.domain,
        model_version=model.model_version,
        doc_string=model.doc_string,
        metadata_props=model.metadata_props,
        graph=graph,
    )


def framed(
    model: onnx.ModelProto, inputs: Iterable[onnx.ValueInfoProto], known: KnownValues, symbolic: frozenset[Axis]
) -> onnx.ModelProto:
    """`model`, see `stated`, without nodes. Of declared shapes those stay that nobody could infer; known lengths replace the declared."""
    frame = onnx.ModelProto()
    frame.CopyFrom(model)
    graph = frame.graph
    for field in ("node", "input", "value_info"):
        graph.ClearField(field)
    graph.input.extend(inputs)
    graph.value_info.extend(value for value in model.graph.value_info if value.name in known.declared)
    for value in (*graph.input, *graph.output):
        shape = known.shape(value.name)
        if shape is not None:
            _replace(value, [None if Axis(value.name, i) in symbolic else size for i, size in enumerate(shape)])
    return frame


def _replace(value: onnx.ValueInfoProto, lengths: list[int | None]) -> None:
    """Write the lengths; None leaves the symbol that is there, or one without a name."""
    declared = value.type.tensor_type.shape
    if len(declared.dim) != len(lengths):
        declared.ClearField("dim")
        for _ in lengths:
            declared.dim.add()
    for dim, size in zip(declared.dim, lengths, strict=True):
        if size is not None:
            dim.dim_value = size
        elif dim.HasField("dim_value"):
            dim.ClearField("dim_value")
