"""A tower in which tokens leave after some blocks, as one static graph over one tile.

How many stay after each step is known at export, so every shape is an integer. What leaves depends on the tile: what a method carries
from block to block and what it chooses are its own torch code (`edgeprune.tokens.sites.Inside`), traced; blocks are those of the plain
tower, over fewer and fewer rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import torch
from torch import Tensor

from edgeprune.models.spec import ModelSpec
from edgeprune.tokens.sites import BlockRows, Inside, Step
from edgeprune_export.graphs.tower import block, embed, queries_keys_values
from edgeprune_export.onnx.graph import Graph
from edgeprune_export.onnx.trace import trace
from edgeprune_export.onnx.weights import WeightsWriter
from edgeprune_runtime.spec import TensorSpec


def after_blocks(steps: tuple[Step, ...]) -> Mapping[int, int]:
    """Tokens of a tile that stay, by the block after which the others leave."""
    return {step.site.after: step.keep for step in steps if step.site.after is not None}


def stepped_tower_graph(
    name: str, model: ModelSpec, inside: Inside, steps: tuple[Step, ...], writer: WeightsWriter, weights_file: str
) -> Graph:
    """pixels [1, 3, P, P], valid [1, N] (0: padding) -> features [1, N, C], zero where a token left, and carried [1, N], -1 there."""
    spec, stay = model.vision, after_blocks(steps)
    g = Graph(name, weights_file=weights_file)
    tokens = spec.positions - 1
    x = embed(g, writer, spec, g.input("pixels", "float32", (1, 3, spec.image_px, spec.image_px)))
    valid = g.node("Reshape", [g.input("valid", "float32", (1, tokens)), g.integers(tokens)])
    place = g.constant("places", np.arange(tokens))  # [n]: which token of the tile each row is
    carried, n = "", tokens
    traced: dict[tuple[int, int, int | None, bool], onnx.ModelProto] = {}
    for i in range(model.feature_layer + 1):
        at = spec.at(i)
        q, k, v = queries_keys_values(g, writer, at, f"tower.{i}", x, n + 1)
        x = block(g, writer, at, f"tower.{i}", x, (q, k, v), n + 1)
        if i == model.feature_layer:
            break
        key = (n, at.heads, stay.get(i), bool(carried))
        if key not in traced:
            traced[key] = _traced(inside, n, at.inner, at.heads, stay.get(i), bool(carried))
        traced[key].graph.name = f"step_{i}"
        given = {"q": q, "k": k, "v": v, "valid": valid, **({"before": carried} if carried else {})}
        made = {"carried": f"carried_{i}", "valid": f"valid_{i}"} | ({"rows": f"rows_{i}"} if i in stay else {})
        g.splice(traced[key], given | {f"{name}_out": value for name, value in made.items()})
        carried = f"carried_{i}"
        if i in stay:
            n = stay[i]
            valid = f"valid_{i}"
            kept = g.node("Sub", [g.node("Slice", [f"rows_{i}", g.integers(1), g.integers(n + 1)]), g.integers(1)])
            x = g.node("Gather", [x, f"rows_{i}"], axis=0)
            place = g.node("Gather", [place, kept], axis=0)
    return _spread(g, x, place, carried, n, tokens, spec.hidden)


def _spread(g: Graph, x: str, place: str, carried: str, n: int, tokens: int, width: int) -> Graph:
    """Outputs over all N tokens of the tile."""
    where = g.node("Unsqueeze", [place, g.integers(1)])
    rows = g.node("Slice", [x, g.integers(1), g.integers(n + 1), g.integers(0)])
    features = g.node("ScatterND", [g.constant("nothing", np.zeros((tokens, width), np.float32)), where, rows])
    g.output(g.node("Unsqueeze", [features, g.integers(0)]), "features", "float32", (1, tokens, width))
    numbers = g.node("ScatterND", [g.constant("gone", np.full(tokens, -1, np.float32)), where, carried])
    g.output(g.node("Unsqueeze", [numbers, g.integers(0)]), "carried", "float32", (1, tokens))
    return g


class _AfterBlock(torch.nn.Module):
    """What is carried on from one block and, at a step, the rows that stay (0 first: the class token)."""

    def __init__(self, inside: Inside, heads: int, keep: int | None) -> None:
        super().__init__()
        self._inside, self._heads, self._keep = inside, heads, keep

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        carried = self._inside.carry(BlockRows(q, k, v, valid, self._heads), before[0] if before else None)
        if self._keep is None:
            return carried, valid * 1.0
        stay = self._inside.reduce(carried, self._keep).index
        return carried[stay], valid[stay], torch.cat([torch.zeros(1, dtype=torch.int64), stay + 1])


def _traced(inside: Inside, n: int, width: int, heads: int, keep: int | None, later: bool) -> onnx.ModelProto:
    inputs = [TensorSpec(name, "float32", (n + 1, width)) for name in ("q", "k", "v")]
    inputs += [TensorSpec(name, "float32", (n,)) for name in ("valid", *(("before",) if later else ()))]
    outputs = ("carried_out", "valid_out", *(("rows_out",) if keep is not None else ()))
    return trace("step", _AfterBlock(inside, heads, keep), inputs, outputs)
