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

from edgeprune.models.spec import ModelSpec, ProjectorSpec
from edgeprune.plan import TokenPlan
from edgeprune.tokens import combine
from edgeprune.tokens.methods import METHODS, Method
from edgeprune.tokens.seen import Seen
from edgeprune_export.graph import OPSET, Graph
from edgeprune_export.linear import Precision, Reader, linear, store_linear
from edgeprune_export.tower import activation
from edgeprune_export.weights import WeightsWriter


def store_projector(writer: WeightsWriter, read: Reader, spec: ProjectorSpec, precision: Precision) -> None:
    for name in ("projector.1", "projector.2"):
        store_linear(writer, name, read, [name], bias=spec.bias, precision=precision)


def select_graph(
    name: str, method: str, keep: int, plan: TokenPlan, model: ModelSpec, writer: WeightsWriter, weights_file: str
) -> Graph:
    """features [T, N, C], attention_<i> [T, H, N], slot, region, mosaic -> visual [K, D] and kept [K].

    Only the inputs that the method reads are declared. kept: flat token t * N + n, ascending by slot, -1 where nothing is left.
    """
    vision, tiles, tokens = model.vision, model.preprocess.tiles_max, model.preprocess.tokens_per_tile
    layers = tuple(dict.fromkeys(METHODS[method].layers(plan)))  # a method may name one layer twice
    traced = _trace(METHODS[method], keep, plan, (tiles, vision.heads, tokens, vision.hidden), layers)
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {
        "features": ("float32", (tiles, tokens, vision.hidden)),
        **{f"attention_{i}": ("float32", (tiles, vision.heads, tokens)) for i in layers},
        "slot": ("int64", (tiles, tokens)),
        "region": ("float32", (tiles, tokens)),
        "mosaic": ("int64", (2,)),
    }
    read = {value for node in traced.graph.node for value in node.input}
    g = Graph(name, weights_file=weights_file)
    for value in traced.graph.input:
        if value.name in read:
            g.input(value.name, *shapes[value.name])
    g.splice(traced, {value.name: value.name for value in traced.graph.input} | {"rows": "rows", "kept": "kept"})
    hidden = linear(g, writer, "projector.1", "rows", keep)
    hidden = activation(g, model.projector.activation, hidden, (keep, model.projector.outputs))
    g.output(linear(g, writer, "projector.2", hidden, keep), "visual", "float32", (keep, model.projector.outputs))
    g.output("kept", "kept", "int64", (keep,))
    return g


class _Reduce(torch.nn.Module):
    """A method as a module over plain tensors, the form that torch.onnx traces."""

    def __init__(self, method: Method, keep: int, plan: TokenPlan, layers: tuple[int, ...]) -> None:
        super().__init__()
        self._method, self._keep, self._plan, self._layers = method, keep, plan, layers

    def forward(self, features: torch.Tensor, *rest: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        *attention, slot, region, mosaic = rest
        seen = Seen(features, dict(zip(self._layers, attention, strict=True)), slot, region, mosaic)
        reduction = self._method.reduce(seen, self._keep, self._plan)
        return combine.apply(seen, reduction), reduction.index


def _trace(
    method: Method, keep: int, plan: TokenPlan, shape: tuple[int, int, int, int], layers: tuple[int, ...]
) -> onnx.ModelProto:
    tiles, heads, tokens, width = shape
    slot = torch.arange(tiles * tokens).reshape(tiles, tokens)
    attention = [torch.rand(tiles, heads, tokens) for _ in layers]
    inputs = (torch.rand(tiles, tokens, width), *attention, slot, torch.ones(tiles, tokens), torch.tensor([1, 1]))
    names = ["features", *(f"attention_{i}" for i in layers), "slot", "region", "mosaic"]
    with _quiet():
        program = torch.onnx.export(
            _Reduce(method, keep, plan, layers).eval(),
            inputs,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=names,
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
