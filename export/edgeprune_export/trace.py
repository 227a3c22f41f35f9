"""Trace torch code into a small ONNX graph whose shapes are all integers."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from onnxscript import opset23 as op

from edgeprune_export.graph import OPSET
from edgeprune_runtime.spec import TensorSpec


def trace(name: str, module: torch.nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[str]) -> onnx.ModelProto:
    """The graph of `module` over inputs of these fixed shapes; sorts are stable, as in torch."""
    examples = tuple(torch.ones(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in inputs)
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
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    model.graph.name = name
    return model


def _stable_sort(self: Any, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
    """aten::sort.stable as TopK over the whole axis, whose ties fall to the lower index by specification."""
    size = op.Gather(op.Shape(self), op.Constant(value_ints=[dim]))
    return op.TopK(self, size, axis=dim, largest=1 if descending else 0, sorted=1)


@contextmanager
def _quiet() -> Iterator[None]:
    """torch's exporter warns about packages that are not needed here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
