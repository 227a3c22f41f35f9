"""Selection and projector as one static graph per (method, K).

The method is written once, in torch (edgeprune.tokens), and traced here; the projector follows by hand over the shared weights, so
only kept tokens are projected.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from onnxscript import opset23 as op

from edgeprune.models.spec import ModelSpec
from edgeprune.plan import TokenPlan
from edgeprune.tokens import combine
from edgeprune.tokens.methods import Method
from edgeprune.tokens.seen import Reads, seen_from
from edgeprune_export.graph import OPSET, Graph, values_read
from edgeprune_export.projector import project
from edgeprune_export.weights import WeightsWriter
from edgeprune_runtime.spec import GraphSpec, TensorSpec

#: Question tokens that a text-aware method can look at; longer questions are cut, and the answer says so.
QUESTION_ROWS = 64


def select_graph(
    name: str,
    method: Method,
    keep: int,
    plan: TokenPlan,
    model: ModelSpec,
    tower: GraphSpec,
    writer: WeightsWriter,
    weights_file: str,
) -> Graph:
    """features [T, N, C], readings of the tower, slot, region, mosaic and host readings -> visual [K, D] and kept [K].

    Only the inputs that the method uses are declared. kept: flat token t * N + n, ascending by slot, -1 where nothing is left.
    """
    inputs = select_inputs(method.reads(plan), model, tower)
    traced = _trace(method, keep, plan, inputs)
    used = values_read(traced.graph)
    g = Graph(name, weights_file=weights_file)
    for spec in inputs:
        if spec.name in used:
            g.input(spec.name, spec.dtype, spec.shape)
    g.splice(traced, {spec.name: spec.name for spec in inputs} | {"rows": "rows", "kept": "kept"})
    visual = project(g, writer, model.projector, "rows", keep)
    g.output(visual, "visual", "float32", (keep, model.projector.outputs))
    g.output("kept", "kept", "int64", (keep,))
    return g


def select_inputs(reads: Reads, model: ModelSpec, tower: GraphSpec) -> tuple[TensorSpec, ...]:
    """Everything that a method with these `reads` may take, under the names of `edgeprune.tokens.seen`."""
    tiles, tokens = model.preprocess.tiles_max, model.preprocess.tokens_per_tile
    per_tile = {spec.name: spec.shape[1:] for spec in tower.outputs}
    host = {
        "question": (QUESTION_ROWS, model.projector.outputs),
        "question_weight": (QUESTION_ROWS,),
        "entropy": (tiles, tokens),
    }
    return (
        *(TensorSpec(name, "float32", (tiles, *per_tile[name])) for name in ("features", *reads.tower)),
        *(TensorSpec(name, "float32", host[name]) for name in reads.host),
        TensorSpec("slot", "int64", (tiles, tokens)),
        TensorSpec("region", "float32", (tiles, tokens)),
        TensorSpec("mosaic", "int64", (2,)),
    )


class _Reduce(torch.nn.Module):
    """A method as a module over plain tensors, the form that torch.onnx traces."""

    def __init__(self, method: Method, keep: int, plan: TokenPlan, names: tuple[str, ...]) -> None:
        super().__init__()
        self._method, self._keep, self._plan, self._names = method, keep, plan, names

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen = seen_from(dict(zip(self._names, inputs, strict=True)))
        reduction = self._method.reduce(seen, self._keep, self._plan)
        return combine.apply(seen, reduction), reduction.index


def _trace(method: Method, keep: int, plan: TokenPlan, inputs: tuple[TensorSpec, ...]) -> onnx.ModelProto:
    names = tuple(spec.name for spec in inputs)
    examples = tuple(torch.ones(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in inputs)
    with _quiet():
        program = torch.onnx.export(
            _Reduce(method, keep, plan, names).eval(),
            examples,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=list(names),
            output_names=["rows", "kept"],
            custom_translation_table={torch.ops.aten.sort.stable: _stable_sort},
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    model.graph.name = "reduce"
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
