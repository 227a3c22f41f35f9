"""Selection and connector as one static graph per (method, K).

The method is written once, in torch (edgeprune.tokens), and traced here; the connector follows by hand over the shared weights, so
only kept tokens are projected.
"""

from __future__ import annotations

import torch

from edgeprune.models.spec import ModelSpec
from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine
from edgeprune.tokens.inside.encoder import encoder_reads, encoder_score
from edgeprune.tokens.inside.rows import LanguageCut
from edgeprune.tokens.methods import Method
from edgeprune.tokens.readings import ALIVE, Geometry, Reads, alive_slots, outputs_from
from edgeprune_export.graphs.connector import project
from edgeprune_export.graphs.tower import deepstack_output
from edgeprune_export.onnx.graph import Graph
from edgeprune_export.onnx.trace import trace
from edgeprune_export.onnx.walk import values_read
from edgeprune_export.onnx.weights import WeightsWriter
from edgeprune_runtime.spec import GraphSpec, TensorSpec

#: Question tokens that a text-aware method can look at; longer questions are cut, and the answer says so.
QUESTION_ROWS = 64


def select_graph(
    name: str,
    method: Method,
    keep: int,
    plan: MethodPlan,
    model: ModelSpec,
    tower: GraphSpec,
    writer: WeightsWriter,
    weights_file: str,
    *,
    encoder: LanguageCut | None = None,
) -> Graph:
    """features [T, N, C], readings of the tower, slot, region, places and host readings -> visual [K, D] and kept [K].

    Only the inputs that the method uses are declared. kept: flat token t * N + n, ascending by slot, -1 where nothing is left. Where
    visual tokens enter behind decoder layers, too, visual has D more channels for each: features of other blocks, chosen or merged
    like the others. encoder: what ranks inside the language model by the encoder's score, one more output salience [K].
    """
    further = tuple(
        TensorSpec(name, "float32", (model.picture.tiles_max, *shape)) for name, shape in _further(model, tower)
    )
    reads = method.reads(plan) | encoder_reads(encoder, plan)
    inputs = (*select_inputs(reads, model, tower), *further)
    names = tuple(spec.name for spec in inputs)
    module = _Reduce(method, keep, plan, geometry_of(model), names, tuple(spec.name for spec in further), encoder)
    made = ("rows", "kept", *(f"rows_{i}" for i in range(len(further))), *(("salience",) if encoder else ()))
    traced = trace(f"method {method.name}", module, inputs, made)
    traced.graph.name = "reduce"
    used = values_read(traced.graph.node)
    g = Graph(name, weights_file=weights_file)
    for spec in inputs:
        if spec.name in used:
            g.input(spec.name, spec.dtype, spec.shape)
    g.splice(traced, {name: name for name in (*names, *made)})
    parts = [project(g, writer, model.connector, "rows", keep)]
    for i, deep in enumerate(model.deepstack):
        parts.append(project(g, writer, deep.connector, f"rows_{i}", keep, f"deepstack.{i}"))
    visual = g.node("Concat", parts, axis=1) if len(parts) > 1 else parts[0]
    g.output(visual, "visual", "float32", (keep, len(parts) * model.connector.outputs))
    g.output("kept", "kept", "int64", (keep,))
    if encoder:
        g.output("salience", "salience", "float32", (keep,))
    return g


def select_inputs(reads: Reads, model: ModelSpec, tower: GraphSpec) -> tuple[TensorSpec, ...]:
    """Everything that a method with these `reads` may take, under the names of `edgeprune.tokens.readings`."""
    tiles, tokens = model.picture.tiles_max, model.picture.tile.units
    per_tile = {spec.name: spec.shape[1:] for spec in tower.outputs}
    host = {
        "question": (QUESTION_ROWS, model.connector.outputs),
        "question_weight": (QUESTION_ROWS,),
        "entropy": (tiles, tokens),
    }
    return (
        *(TensorSpec(name, "float32", (tiles, *per_tile[name])) for name in ("features", *reads.tower)),
        *(TensorSpec(name, "float32", host[name]) for name in reads.host),
        TensorSpec("slot", "int64", (tiles, tokens)),
        TensorSpec("region", "float32", (tiles, tokens)),
        TensorSpec("places", "int64", (tiles, tokens, 2)),
        *([TensorSpec(ALIVE, "float32", (tiles, tokens))] if ALIVE in per_tile else []),
    )


def _further(model: ModelSpec, tower: GraphSpec) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes [1, N, C] without the first axis of features that enter behind decoder layers."""
    shapes = {spec.name: spec.shape[1:] for spec in tower.outputs}
    return [(name, shapes[name]) for name in (deepstack_output(i) for i in range(len(model.deepstack)))]


def geometry_of(model: ModelSpec) -> Geometry:
    """What is the same for every picture of this model."""
    tile = model.picture.tile
    return Geometry(tile.side, tile.extra, model.picture.tiling.overview)


class _Reduce(torch.nn.Module):
    """A method as a module over plain tensors, the form that torch.onnx traces."""

    def __init__(
        self,
        method: Method,
        keep: int,
        plan: MethodPlan,
        geometry: Geometry,
        names: tuple[str, ...],
        further: tuple[str, ...],
        encoder: LanguageCut | None,
    ) -> None:
        super().__init__()
        self._method, self._keep, self._plan, self._geometry = method, keep, plan, geometry
        self._names, self._further, self._encoder = names, further, encoder

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        named = dict(zip(self._names, inputs, strict=True))
        further = [named.pop(name) for name in self._further]
        if ALIVE in named:
            named["slot"] = alive_slots(named["slot"], named.pop(ALIVE))
        outputs = outputs_from(named, self._geometry)
        reduction = self._method.reduce(outputs, self._keep, self._plan)
        rows = combine.apply(outputs, reduction)
        made = rows, reduction.index, *(combine.taken(features, reduction) for features in further)
        if self._encoder is None:
            return made
        scores = encoder_score(self._encoder, outputs, self._plan)
        return *made, scores.flatten()[torch.clamp(reduction.index, min=0)]
