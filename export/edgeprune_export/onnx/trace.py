"""Trace torch code into a small ONNX graph whose shapes are all integers."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import onnx
import torch
from onnxscript import opset23 as op

from edgeprune.errors import ExportError
from edgeprune_export.onnx.graph import OPSET
from edgeprune_export.onnx.walk import graphs
from edgeprune_runtime.spec import TensorSpec


def trace(name: str, module: torch.nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[str]) -> onnx.ModelProto:
    """The graph of `module` over inputs of these fixed shapes; sorts are stable, as in torch.

    Raises ExportError for code that has no static graph.
    """
    examples = tuple(torch.ones(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in inputs)
    try:
        with _quiet():
            program = torch.onnx.export(
                module.eval(),
                examples,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[spec.name for spec in inputs],
                output_names=list(outputs),
                custom_translation_table={torch.ops.aten.sort.stable: _stable_sort},
            )
    except Exception as error:  # a method may be anybody's code, and the exporter fails in many ways
        raise ExportError(
            f"{name} cannot be turned into a graph: {_cause(error)}; a method's shapes and branches must not depend on tensor values: use "
            "torch.where, torch.sort(stable=True) and index_select instead of if, nonzero and masks"
        ) from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    model.graph.name = name
    _forget_origin(model)
    return model


def _forget_origin(model: onnx.ModelProto) -> None:
    """The exporter notes the source line of every node, with the path of this machine."""
    for graph in graphs(model.graph):
        for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
            del part.metadata_props[:]
            part.doc_string = ""


def _cause(error: BaseException) -> str:
    """The first line of the innermost error, without terminal colours."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line.strip()}"


def _stable_sort(self: Any, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
    """aten::sort.stable as TopK over the whole axis, whose ties fall to the lower index by specification."""
    size = op.Gather(op.Shape(self), op.Constant(value_ints=[dim]))
    return op.TopK(self, size, axis=dim, largest=1 if descending else 0, sorted=1)


@contextmanager
def _quiet() -> Iterator[None]:
    """torch's exporter warns about packages that are not needed here, and prints whole graphs when it fails."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
