"""A vision tower in which tokens leave or merge between blocks, as one static graph over one tile.

What it hands on has the places of the whole tile: features and readings are zero where a token left, `alive` says where one is, `owner` where
each went. So methods that choose among its tokens, and the picture of what was kept, need not know of cuts.
"""

from __future__ import annotations

import numpy as np

from edgeprune.models.spec import ModelSpec, TowerSpec
from edgeprune.tokens.inside.tower.plan.cuts import TowerCuts
from edgeprune.tokens.inside.tower.plan.layout import first_rows, raster_of_rows, tokens_of_raster
from edgeprune.tokens.readings import Reads
from edgeprune_export.graphs.cut_rows import QKV, CutRows, Part
from edgeprune_export.graphs.readings import GRAPH_READINGS, Attention, Branch, spread, without_class
from edgeprune_export.graphs.tower import (
    as_tile,
    behind_features,
    deepstack_output,
    embed,
    feature_outputs,
    tower_blocks,
    units_of_patches,
)
from edgeprune_export.graphs.units import pooled
from edgeprune_export.onnx.graph import Graph
from edgeprune_export.onnx.weights import WeightsWriter
from edgeprune_runtime.spec import tower_of


def cut_tower_graph(
    name: str,
    model: ModelSpec,
    spec: TowerSpec,
    cuts: TowerCuts,
    reads: Reads,
    writer: WeightsWriter,
    weights_file: str,
) -> Graph:
    """pixels [1, 3, P, P] or those of the view of `spec`, valid [1, N] (0: padding) -> features [1, N, C], one output per reading of
    `reads.tower` and per block whose features enter behind a decoder layer, alive [1, N] and owner [1, N] int64: the token of the tile
    that each is in, -1: none."""
    g = Graph(tower_of(name, spec.view), weights_file=weights_file)
    tower = _CutTower(g, writer, model, spec, cuts)
    whole, begun = tower_blocks(model, reads)
    deep = [one.block for one in model.deepstack]
    for i in range(begun):
        qkv = tower.left.before(i)
        tower.readings(reads, i, qkv)
        if i < whole:
            tower.left.behind(i, qkv, watched=i < model.feature_layer)
        if i in deep:
            tower.deepstack(deep.index(i))
        if i == model.feature_layer:
            tower.left.finish()
            tower.features(reads)
    return g


class _CutTower:
    """The graph under construction."""

    def __init__(self, g: Graph, writer: WeightsWriter, model: ModelSpec, spec: TowerSpec, cuts: TowerCuts) -> None:
        self._g, self._writer, self._model, self._spec = g, writer, model, spec
        self._places: tuple[str, str] | None = None
        tokens = model.picture.tile.units
        # Units of the view by their numbers in the tile, and -1 for what is none.
        self._numbers = np.append(model.picture.tile.units_of(spec.view), -1)
        x = embed(g, writer, spec, g.input("pixels", "float32", (1, 3, *(spec.view or (spec.image_px, spec.image_px)))))
        raster = raster_of_rows(spec, cuts.merge)
        place = g.constant("place", raster)
        if cuts.merge > 1:
            x = g.node("Gather", [x, place], axis=0)
        valid = g.node("Reshape", [g.input("valid", "float32", (1, tokens)), g.integers(tokens)])
        padded = g.node("Concat", [g.constant("one", np.ones(1, np.float32)), valid], axis=0)
        of_row = g.constant("token_of_row", self._numbers[tokens_of_raster(spec, cuts.merge)[raster]] + 1)
        rows = (spec.positions,)
        self.left = CutRows(
            g,
            writer,
            spec,
            cuts,
            {
                "x": Part(x, (spec.positions, spec.hidden)),
                "place": Part(place, rows, "int64"),
                "alive": Part(g.node("Gather", [padded, of_row]), rows),
                "owner": Part(g.constant("row_of_place", np.argsort(raster)), rows, "int64"),
            },
        )
        self._extra = cuts.method.extra > 0

    def readings(self, reads: Reads, i: int, qkv: QKV) -> None:
        """Outputs of what is read in block i."""
        here = [read for read in reads.of("block") if read.layer == i]
        if not here:
            return
        size = self.left.parts.get("size")
        bias = None if size is None else self._g.node("Log", [size.value])
        at = Attention(self._spec.at(i), self._model.connector.merge, *qkv[:2], self.left.count, self._where(), bias)
        for read in here:
            value, shape = self._as_tile(GRAPH_READINGS[read.kind](self._g, at))
            self._g.output(value, read.name, "float32", shape)

    def deepstack(self, number: int) -> None:
        """The output of what enters behind decoder layer `number`: features of the rows that are there now."""
        g, model = self._g, self._model
        units = units_of_patches(g, model, self._spec, self._patches(self.left.x))
        shape = (1, model.picture.tile.units, model.connector.merged)
        g.output(g.node("Unsqueeze", [units, g.integers(0)]), deepstack_output(number), "float32", shape)

    def features(self, reads: Reads) -> None:
        """Outputs at the feature layer."""
        g, spec, parts, n = self._g, self._spec, self.left.parts, self.left.count
        tokens = self._model.picture.tile.units
        x = behind_features(g, self._writer, spec, self.left.x)
        patches = self._patches(x)
        there = g.node("Unsqueeze", [without_class(g, spec, parts["alive"].value, 0, n), g.integers(0)])
        merge = self._model.connector.merge
        alive = pooled(g, spread(g, there, (1,), self._where()), (1,), spec.grid, merge)
        alive, _ = self._as_tile(Branch(alive, (1, spec.tokens // merge**2)))
        column = g.node("Reshape", [alive, g.integers(tokens, 1)])
        feature_outputs(g, self._writer, self._model, reads, units_of_patches(g, self._model, spec, patches), x, column)
        g.output(alive, "alive", "float32", (1, tokens))
        g.output(self._owner(), "owner", "int64", (1, tokens))
        if "carried" in reads:
            score = g.node("Unsqueeze", [without_class(g, spec, parts["score"].value, 0, n), g.integers(0)])
            g.output(spread(g, score, (1,), self._where()), "carried", "float32", (1, tokens))

    def _as_tile(self, branch: Branch) -> tuple[str, tuple[int, ...]]:
        return as_tile(self._g, branch, self._spec, self._model.connector.merge, self._model.picture.tile.side)

    def _patches(self, x: str) -> str:
        """Rows x [n, C] at the places of all patches [h w, C], zero where one left."""
        g = self._g
        rows = without_class(g, self._spec, x, 0, self.left.count)
        return g.node("Gather", [g.node("Pad", [rows, g.integers(0, 0, 1, 0)]), self._where()], axis=0)

    def _where(self) -> str:
        """[patches]: which row behind the class token's holds each patch, the number behind the last where none does."""
        place, n = self.left.parts["place"].value, self.left.count
        if self._places is None or self._places[0] != place:
            g, rows, first = self._g, self._spec.positions, self._spec.class_tokens
            none = g.constant(f"none_{n}", np.full(rows + 1, n))
            numbers = g.constant(f"numbers_{n}", np.arange(n))
            into = g.node("Unsqueeze", [self._somewhere(place), g.integers(1)])
            held = g.node("Slice", [g.node("ScatterND", [none, into, numbers]), g.integers(first), g.integers(rows)])
            self._places = place, g.node("Sub", [held, g.integers(first)])
        return self._places[1]

    def _somewhere(self, place: str) -> str:
        """Places, with one behind all others for rows that have none."""
        if not self._extra:
            return place
        g, rows = self._g, self._spec.positions
        none = g.node("Less", [place, g.integers(0)])
        return g.node("Where", [none, g.integers(rows), place])

    def _owner(self) -> str:
        """[1, N]: the token that each token of the tile is in, -1 where it is gone."""
        g, merge, n = self._g, self._model.connector.merge, self.left.count
        rows, tokens = self._spec.positions, self._model.picture.tile.units
        place = g.node("Concat", [self._somewhere(self.left.parts["place"].value), g.integers(rows)], axis=0)
        of_place = self._numbers[np.append(tokens_of_raster(self._spec, merge), -1)]
        token = g.node("Gather", [g.constant("token_of_place", of_place), place])
        asked = np.full(tokens, rows)  # behind all rows: no such place in this view
        asked[self._numbers[:-1]] = first_rows(self._spec, merge)
        known = g.node("Concat", [self.left.parts["owner"].value, g.integers(-1)], axis=0)
        owner = g.node("Gather", [known, g.constant("first_rows", asked)])
        gone = g.node("Less", [owner, g.integers(0)])
        row = g.node("Where", [gone, g.integers(n), owner])
        return g.node("Reshape", [g.node("Gather", [token, row]), g.integers(1, tokens)])
