"""A tower in which tokens leave after some blocks (FlowCut), as one static graph over one tile.

How many stay after each cut is known at export, so every shape is an integer. What leaves depends on the tile: the score of a block and
the choice are written in torch (edgeprune.tokens.flow) and traced; blocks are those of the plain tower, over fewer and fewer rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import torch
from torch import Tensor

from edgeprune.models.spec import ModelSpec
from edgeprune.tokens import flow
from edgeprune_export.graphs.tower import block, embed, queries_keys_values
from edgeprune_export.onnx.graph import Graph
from edgeprune_export.onnx.trace import trace
from edgeprune_export.onnx.weights import WeightsWriter
from edgeprune_runtime.spec import TensorSpec


def cut_tower_graph(
    name: str, model: ModelSpec, cuts: Mapping[int, int], writer: WeightsWriter, weights_file: str
) -> Graph:
    """pixels [1, 3, P, P], valid [1, N] (0: padding) -> features [1, N, C], zero where a token left, and flow [1, N], -1 there.

    cuts: patches that stay after a block.
    """
    spec = model.vision
    g = Graph(name, weights_file=weights_file)
    tokens = spec.positions - 1
    x = embed(g, writer, spec, g.input("pixels", "float32", (1, 3, spec.image_px, spec.image_px)))
    valid = g.node("Reshape", [g.input("valid", "float32", (1, tokens)), g.integers(tokens)])
    place = g.constant("places", np.arange(tokens))  # [n]: which patch of the tile each row is
    score, n = "", tokens
    steps: dict[tuple[int, int, int | None, bool], onnx.ModelProto] = {}
    for i in range(model.feature_layer + 1):
        at = spec.at(i)
        q, k, v = queries_keys_values(g, writer, at, f"tower.{i}", x, n + 1)
        x = block(g, writer, at, f"tower.{i}", x, (q, k, v), n + 1)
        if i == model.feature_layer:
            break
        key = (n, at.heads, cuts.get(i), bool(score))
        if key not in steps:
            steps[key] = _step(n, at.inner, at.heads, cuts.get(i), bool(score))
        steps[key].graph.name = f"flow_{i}"
        given = {"q": q, "k": k, "v": v, "valid": valid, **({"before": score} if score else {})}
        made = {"score": f"score_{i}", "valid": f"valid_{i}"} | ({"rows": f"rows_{i}"} if i in cuts else {})
        g.splice(steps[key], given | {f"{name}_out": value for name, value in made.items()})
        score = f"score_{i}"
        if i in cuts:
            n = cuts[i]
            valid = f"valid_{i}"
            patches = g.node("Sub", [g.node("Slice", [f"rows_{i}", g.integers(1), g.integers(n + 1)]), g.integers(1)])
            x = g.node("Gather", [x, f"rows_{i}"], axis=0)
            place = g.node("Gather", [place, patches], axis=0)
    return _spread(g, x, place, score, n, tokens, spec.hidden)


def _spread(g: Graph, x: str, place: str, score: str, n: int, tokens: int, width: int) -> Graph:
    """Outputs over all N tokens of the tile."""
    where = g.node("Unsqueeze", [place, g.integers(1)])
    patches = g.node("Slice", [x, g.integers(1), g.integers(n + 1), g.integers(0)])
    features = g.node("ScatterND", [g.constant("nothing", np.zeros((tokens, width), np.float32)), where, patches])
    g.output(g.node("Unsqueeze", [features, g.integers(0)]), "features", "float32", (1, tokens, width))
    scores = g.node("ScatterND", [g.constant("gone", np.full(tokens, -1, np.float32)), where, score])
    g.output(g.node("Unsqueeze", [scores, g.integers(0)]), "flow", "float32", (1, tokens))
    return g


class _Step(torch.nn.Module):
    """Score of one block and, at a cut, the rows that stay (0 first: the class token)."""

    def __init__(self, heads: int, count: int | None) -> None:
        super().__init__()
        self._heads, self._count = heads, count

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        score = flow.block_score(q, k, v, valid, self._heads)
        if before:
            score = 0.5 * before[0] + 0.5 * score
        if self._count is None:
            return score, valid * 1.0
        stay = flow.survivors(score, self._count)
        return score[stay], valid[stay], torch.cat([torch.zeros(1, dtype=torch.int64), stay + 1])


def _step(n: int, width: int, heads: int, count: int | None, later: bool) -> onnx.ModelProto:
    inputs = [TensorSpec(name, "float32", (n + 1, width)) for name in ("q", "k", "v")]
    inputs += [TensorSpec(name, "float32", (n,)) for name in ("valid", *(("before",) if later else ()))]
    outputs = ("score_out", "valid_out", *(("rows_out",) if count is not None else ()))
    return trace("flow", _Step(heads, count), inputs, outputs)
