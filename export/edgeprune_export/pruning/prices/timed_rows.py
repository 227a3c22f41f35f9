"""Seconds of a block by the rows that it sees: the staircase of this machine, for schedules that take rows away block by block.

Weights and inputs are random: only shapes matter. What a cut itself computes is not in it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeprune.models.spec import DecoderSpec, TowerSpec
from edgeprune.models.weights.shapes import language_layer, tower_block
from edgeprune_export.bundle.progress import Track
from edgeprune_export.graphs.decoder import block_graph, rotary_tables, store_layer
from edgeprune_export.graphs.tower import block, queries_keys_values, store_block
from edgeprune_export.onnx.graph import Graph
from edgeprune_export.onnx.weights import WeightsWriter
from edgeprune_export.pruning.prices.latency import seconds
from edgeprune_export.pruning.prices.timed_blocks import FILE, Stack, block_session, random_weights
from edgeprune_runtime.spec import WeightPrecision

_BLOCKS = 2  # of one graph: what a call costs counts half
_POINTS = 8  # numbers of rows that are measured


def tower_seconds(spec: TowerSpec, precision: WeightPrecision, track: Track) -> dict[str, float]:
    """Of one block of the tower, by "tower:ROWS", the widest block; all its rows attend to all."""
    tower = replace(spec.at(_widest(spec)), widths=(), layers=_BLOCKS, table=0, rotary=None)
    counts = sorted({max(2, round(tower.positions * (i + 1) / _POINTS)) for i in range(_POINTS)})

    def graphs(writer: WeightsWriter) -> list[Graph]:
        for i in range(_BLOCKS):
            store_block(writer, random_weights(tower_block(f"tower.{i}", tower)), tower, i, precision)
        found = []
        for rows in counts:
            g = Graph(f"tower-{rows}", weights_file=FILE)
            x = g.input("x", "float32", (rows, tower.hidden))
            for i in range(_BLOCKS):
                p = f"tower.{i}"
                x = block(g, writer, tower, p, x, queries_keys_values(g, writer, tower, p, x, rows), rows, None)
            g.output(x, "y", "float32", (rows, tower.hidden))
            found.append(g)
        return found

    measured = _seconds(graphs, precision, track, "blocks of the tower")
    return {f"tower:{rows}": value for rows, value in zip(counts, measured, strict=True)}


def language_seconds(
    spec: DecoderSpec, chunks: Sequence[int], room: int, precision: WeightPrecision, track: Track
) -> dict[str, float]:
    """Of one layer of the language model for a run of a prefill graph, by "language:POSITIONS", half of the cache in use."""
    decoder = replace(spec, widths=spec.widths[:_BLOCKS], layers=min(_BLOCKS, spec.layers))
    counts = sorted(set(chunks))

    def graphs(writer: WeightsWriter) -> list[Graph]:
        for i in range(decoder.layers):
            store_layer(
                writer,
                random_weights(language_layer(f"layers.{i}", decoder.at(i))),
                decoder.at(i),
                f"layers.{i}",
                precision,
            )
        writer.add("norm.weight", [np.ones(decoder.hidden, np.float32)])
        cos, sin = rotary_tables(np.ones(decoder.head_dim // 2, np.float32), 1.0, room)
        writer.add("rotary.cos", [cos])
        writer.add("rotary.sin", [sin])
        return [block_graph(f"language-{rows}", decoder, writer, FILE, rows=rows, capacity=room) for rows in counts]

    measured = _seconds(graphs, precision, track, "layers of the language model")
    return {f"language:{rows}": value * _BLOCKS / decoder.layers for rows, value in zip(counts, measured, strict=True)}


def _seconds(
    graphs: Callable[[WeightsWriter], list[Graph]], precision: WeightPrecision, track: Track, what: str
) -> list[float]:
    with tempfile.TemporaryDirectory(prefix="edgeprune-rows-") as folder:
        root = Path(folder)
        with WeightsWriter(root / FILE) as writer:
            written = graphs(writer)
        stacks: list[Stack] = [[(block_session(root, graph, precision), 1.0)] for graph in written]
        return [value / _BLOCKS for value in seconds(stacks, track, what)]


def _widest(spec: TowerSpec) -> int:
    return max(range(spec.layers), key=lambda i: spec.at(i).heads * spec.at(i).head_dim + spec.at(i).mlp)
