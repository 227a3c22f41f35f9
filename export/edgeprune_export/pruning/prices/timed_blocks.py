"""What head groups and channels cost where that is measured: graphs of one and two blocks, and a linear price fitted to them.

In what unit is the measurement's business: seconds (`latency.py`) or joules (`energy.py`). Weights and inputs are random: only shapes matter.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from edgeprune.models.spec import DecoderSpec, TowerSpec, Width
from edgeprune.models.weights.shapes import TensorShape, language_layer, tower_block
from edgeprune.structure.cost import Price
from edgeprune_export.bundle.progress import Track
from edgeprune_export.graphs.decoder import block_graph, rotary_tables, store_layer
from edgeprune_export.graphs.patch_positions import store_positions
from edgeprune_export.graphs.tower import block, queries_keys_values, store_block
from edgeprune_export.onnx.graph import Graph
from edgeprune_export.onnx.weights import WeightsWriter
from edgeprune_export.pruning.prices.terms import PricedRequest
from edgeprune_runtime.backends import backend
from edgeprune_runtime.spec import WeightPrecision

FILE = "weights.bin"
_LEAST = 1e-9  # a unit that seems to cost nothing still costs something


Stack = Sequence[tuple[Callable[[], None], float]]
"""What runs one stack of blocks: graphs, and how often a request runs each."""
Cost = Callable[[Sequence[Stack], Track, str], list[float]]
"""Measures what one request costs on each stack. The text says what is being measured."""


def price_of_tower(spec: TowerSpec, precision: WeightPrecision, cost: Cost, track: Track) -> Price:
    """Predicted cost of the tower on one tile or view, by widths. Where blocks have windows, those that see all are measured apart."""
    windows = (spec.window, None) if spec.window is not None and spec.full else (spec.window,)

    def make(widths: tuple[Width, ...], writer: WeightsWriter, kind: int) -> list[tuple[Graph, float]]:
        tower = replace(spec, widths=widths, layers=len(widths), table=0)
        g = Graph("tower", weights_file=FILE)
        x = g.input("x", "float32", (spec.positions, spec.hidden))
        store_positions(writer, random_weights({}), tower)
        for i in range(len(widths)):
            p, at = f"tower.{i}", tower.at(i)
            store_block(writer, random_weights(tower_block(p, at)), at, i, precision)
            qkv = queries_keys_values(g, writer, at, p, x, spec.positions)
            x = block(g, writer, at, p, x, qkv, spec.positions, windows[kind])
        g.output(x, "y", "float32", (spec.positions, spec.hidden))
        return [(g, 1.0)]

    full = Width(spec.heads, spec.mlp)
    return _fitted(full, make, precision, cost, track, "blocks of the tower", spec.full if len(windows) > 1 else ())


def price_of_language(
    spec: DecoderSpec, precision: WeightPrecision, request: PricedRequest, cost: Cost, track: Track
) -> Price:
    """Predicted cost of the language model's layers for one request, by widths."""

    def make(widths: tuple[Width, ...], writer: WeightsWriter, kind: int) -> list[tuple[Graph, float]]:
        decoder = replace(spec, widths=widths, layers=len(widths))
        for i in range(len(widths)):
            p, at = f"layers.{i}", decoder.at(i)
            store_layer(writer, random_weights(language_layer(p, at)), at, p, precision)
        writer.add("norm.weight", [np.ones(spec.hidden, np.float32)])
        cos, sin = rotary_tables(np.ones(spec.head_dim // 2, np.float32), 1.0, request.capacity)
        writer.add("rotary.cos", [cos])
        writer.add("rotary.sin", [sin])
        sizes = (("prefill", request.chunk), ("decode", 1))
        graphs = (
            block_graph(name, decoder, writer, FILE, rows=rows, capacity=request.capacity) for name, rows in sizes
        )
        times = (-(-request.positions // request.chunk), request.tokens)
        return list(zip(graphs, map(float, times), strict=True))

    full = Width(spec.kv_heads, spec.mlp)
    return _fitted(full, make, precision, cost, track, "layers of the language model")


Make = Callable[[tuple[Width, ...], WeightsWriter, int], list[tuple[Graph, float]]]
"""Graphs of blocks of these widths, all of one kind, and how often a request runs each."""


def _fitted(
    full: Width,
    make: Make,
    precision: WeightPrecision,
    cost: Cost,
    track: Track,
    what: str,
    apart: Sequence[int] = (),
) -> Price:
    """apart: blocks of a second kind, which differ in what a head group costs."""
    half = Width(max(1, full.groups // 2), max(1, full.mlp // 2))
    stacks = ((full,), (full, full), (half,), (Width(half.groups, full.mlp),), (Width(full.groups, half.mlp),))
    each = [(kind, stack) for kind in range(2 if apart else 1) for stack in stacks]
    with tempfile.TemporaryDirectory(prefix="edgeprune-blocks-") as folder:
        ready: list[Stack] = []
        for number, (kind, stack) in enumerate(each):
            root = Path(folder) / str(number)
            root.mkdir()
            with WeightsWriter(root / FILE) as writer:
                graphs = make(stack, writer, kind)
            ready.append([(block_session(root, graph, precision), times) for graph, times in graphs])
        costs = cost(ready, track, what)
    rows = []
    for kind, stack in each:
        groups = [0, 0]
        groups[kind] = sum(w.groups for w in stack)
        rows.append([1, len(stack), groups[0], sum(w.mlp for w in stack), *(groups[1:] if apart else [])])
    return price_from(np.asarray(rows, float), np.asarray(costs), apart)


def price_from(rows: np.ndarray, costs: np.ndarray, apart: Sequence[int] = ()) -> Price:
    """Least squares over graphs. Units never cost less than nothing.

    rows   [n, 4]: 1, blocks, head groups, channels; [n, 5] where the head groups of some blocks, `apart`, cost something else
    costs  [n]
    """
    scale = rows.max(axis=0)
    found, *_ = np.linalg.lstsq(rows / scale, costs, rcond=None)
    fixed, each, group, channel, *others = (float(value) for value in found / scale)
    more = {block: max(other, _LEAST) for other in others for block in apart}
    return Price(max(fixed, 0.0), max(each, 0.0), max(group, _LEAST), max(channel, _LEAST), apart=more)


def block_session(root: Path, graph: Graph, precision: WeightPrecision) -> Callable[[], None]:
    """What runs a graph, saved in `root` beside its weights, over random inputs."""
    onnx.save(graph.model(), root / f"{graph.name}.onnx")
    spec = graph.spec(f"{graph.name}.onnx")
    session = backend().open(root, spec, resident=precision != "fp32")
    random = np.random.default_rng(0)
    buffers = {
        one.name: random.standard_normal(one.shape, np.float32)
        if one.dtype == "float32"
        else np.zeros(one.shape, one.dtype)
        for one in (*spec.inputs, *spec.outputs)
    }
    for name, buffer in buffers.items():
        if name == "total":  # half of the cache is in use
            buffer[:] = max(spec.inputs[0].shape[0], buffers["past_key_0"].shape[2] // 2)
            buffers["last_index"][:] = buffer - 1
    session.bind(buffers)
    return session.run


def random_weights(shapes: Mapping[str, TensorShape]) -> Callable[[str], Iterable[np.ndarray]]:
    """A reader of random weights of these shapes."""

    def read(name: str) -> Iterator[np.ndarray]:
        yield np.random.default_rng(len(name)).standard_normal(shapes[name], np.float32) * 0.02

    return read
