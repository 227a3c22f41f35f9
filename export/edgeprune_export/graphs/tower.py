"""The vision tower as one static graph over one tile, or over a part of it: then there is one graph for each size of that.

A picture's tiles are run one after the other through the same graph, so every tile grid, including the thumbnail alone, shares it.
All rows but the class token's go on, merged where the connector merges patches. What methods read besides
the features are side branches of the blocks' queries and keys: the main attention stays fused, and an N x N map exists only where a
method asks for one. Blocks after the feature layer are built only as far as a method reads them, the last of them without its attention
and MLP.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from edgeprune.models.spec import ModelSpec, TowerSpec
from edgeprune.models.weights.shapes import PREFIX
from edgeprune.tokens.readings import Reads
from edgeprune_export.graphs.activation import activation
from edgeprune_export.graphs.connector import project
from edgeprune_export.graphs.linear import Reader, WeightPrecision, linear, store_linear, store_vectors
from edgeprune_export.graphs.norm import norm, store_norm
from edgeprune_export.graphs.patch_positions import store_positions, stored_name
from edgeprune_export.graphs.readings import GRAPH_READINGS, Attention, Branch, without_class
from edgeprune_export.graphs.units import in_raster, in_tile, in_windows, merged
from edgeprune_export.onnx.graph import CONTRIB, Graph
from edgeprune_export.onnx.weights import WeightsWriter
from edgeprune_runtime.spec import tower_of


def tower_blocks(model: ModelSpec, reads: Reads) -> tuple[int, int]:
    """(blocks built in full, blocks of which at least queries and keys are built)."""
    deepest = max((*reads.layers, model.feature_layer))
    return max(model.feature_layer + 1, deepest), deepest + 1


def store_tower(
    writer: WeightsWriter, read: Reader, model: ModelSpec, reads: Reads, precision: WeightPrecision
) -> Iterator[str]:
    """Stream the blocks that are built into the weights file, yielding after each for progress."""
    store_embeddings(writer, read, model.vision)
    for spec in towers_by_view(model):
        store_positions(writer, read, spec)
    yield "tower.embeddings"
    whole, begun = tower_blocks(model, reads)
    for i in range(begun):
        yield store_block(writer, read, model.vision, i, precision, whole=i < whole)


def towers_by_view(model: ModelSpec) -> tuple[TowerSpec, ...]:
    """The tower for each part of a tile that pictures can have, the whole tile where there are none."""
    return tuple(replace(model.vision, view=view) for view in model.picture.views or (None,))


def store_embeddings(writer: WeightsWriter, read: Reader, spec: TowerSpec) -> None:
    """Write what stands before block 0, positions left out, and, where there is one, the norm behind the feature layer."""
    if spec.frames > 1:  # a still picture shows every frame of the kernel the same pixels
        writer.add("tower.patch.weight", (rows.sum(axis=2) for rows in read("tower.patch.weight")))
    else:
        store_vectors(writer, read, ["tower.patch.weight"])
    if prefix := PREFIX[: spec.prefix_tokens]:
        writer.add("tower.prefix", (row.reshape(1, spec.hidden) for name in prefix for row in read(name)))
    if spec.patch_bias:
        store_vectors(writer, read, ["tower.patch.bias"])
    if spec.pre_norm:
        store_norm(writer, read, "tower.pre_norm", spec.norm)
    if spec.final_norm:
        store_norm(writer, read, "tower.norm", spec.norm)


def store_block(
    writer: WeightsWriter, read: Reader, spec: TowerSpec, block: int, precision: WeightPrecision, *, whole: bool = True
) -> str:
    """Write one block, or only what its queries and keys need; returns its name."""
    p = f"tower.{block}"
    for name in ("norm1", "norm2") if whole else ("norm1",):
        store_norm(writer, read, f"{p}.{name}", spec.norm)
    store_linear(writer, f"{p}.qkv", read, [f"{p}.q", f"{p}.k", f"{p}.v"], bias=spec.qkv_bias, precision=precision)
    if whole:
        if spec.layer_scale:
            store_vectors(writer, read, [f"{p}.scale1", f"{p}.scale2"])
        for name in ("o", *(("fc_in", "fc_out") if spec.swiglu else ("fc1", "fc2"))):
            store_linear(writer, f"{p}.{name}", read, [f"{p}.{name}"], bias=True, precision=precision)
    return p


def tower_graph(model: ModelSpec, spec: TowerSpec, reads: Reads, writer: WeightsWriter, weights_file: str) -> Graph:
    """pixels [1, 3, P, P], or those of the view of `spec` -> features [1, N, C] of the feature layer, and one output [1, ...] per reading
    of `reads.tower` and per block whose features enter behind a decoder layer.

    Where `spec` has a view, outputs are those of the whole tile, zero outside the view, so that all views have outputs of one shape.
    """
    g = Graph(tower_of("tower", spec.view), weights_file=weights_file)
    rows, side = spec.positions, model.picture.tile.side
    x = embed(g, writer, spec, g.input("pixels", "float32", (1, 3, *(spec.view or (spec.image_px, spec.image_px)))))
    whole, begun = tower_blocks(model, reads)
    for i in range(begun):
        at = spec.at(i)
        q, k, v = queries_keys_values(g, writer, at, f"tower.{i}", x, rows)
        here = [read for read in reads.of("block") if read.layer == i]
        if here:
            asking, keys = (in_raster(g, part, (), spec.grid, at.inner, spec.window) for part in (q, k))
            attention_of = Attention(at, model.connector.merge, asking, keys, rows)
            for read in here:
                branch = GRAPH_READINGS[read.kind](g, attention_of)
                value, shape = as_tile(g, branch, spec, model.connector.merge, side)
                g.output(value, read.name, "float32", shape)
        if i < whole:
            x = block(g, writer, at, f"tower.{i}", x, (q, k, v), rows, spec.window_of(i))
        if i in (deep := [one.block for one in model.deepstack]):
            units = g.node("Unsqueeze", [_units(g, model, spec, x), g.integers(0)])
            g.output(units, deepstack_output(deep.index(i)), "float32", (1, side**2, model.connector.merged))
        if i == model.feature_layer:
            _features(g, writer, model, spec, reads, x)
    return g


def deepstack_output(number: int) -> str:
    """Name of the tower's features that enter behind decoder layer `number`."""
    return f"deepstack_{number}"


def as_tile(g: Graph, branch: Branch, spec: TowerSpec, merge: int, side: int) -> tuple[str, tuple[int, ...]]:
    """A reading of a view as one of the whole tile."""
    value, shape = branch.value, list(branch.shape)
    units = spec.grid[0] // merge, spec.grid[1] // merge
    if spec.view is None or units == (side, side):
        return value, branch.shape
    for axis in branch.token_axes:
        axis %= len(shape)
        trailing = math.prod(shape[axis + 1 :])
        flat = g.node("Reshape", [value, g.integers(*shape[: axis + 1], trailing)])
        wide = in_tile(g, flat, shape[:axis], units, trailing, side)
        shape[axis] = side**2
        value = g.node("Reshape", [wide, g.integers(*shape)])
    return value, tuple(shape)


def _units(g: Graph, model: ModelSpec, spec: TowerSpec, x: str) -> str:
    """x [R, C] -> merged rows of the visual tokens of the whole tile [N, merge^2 C]."""
    patches = in_raster(g, without_class(g, spec, x, 0), (), spec.grid, spec.hidden, spec.window)
    return units_of_patches(g, model, spec, patches)


def units_of_patches(g: Graph, model: ModelSpec, spec: TowerSpec, patches: str) -> str:
    """Rows of all patches in raster order [h w, C] -> merged rows of the visual tokens of the whole tile [N, merge^2 C]."""
    merge = model.connector.merge
    units = merged(g, patches, spec.grid, spec.hidden, merge)
    if spec.view is None:
        return units
    grid = spec.grid[0] // merge, spec.grid[1] // merge
    return in_tile(g, units, (), grid, model.connector.merged, model.picture.tile.side)


def _features(g: Graph, writer: WeightsWriter, model: ModelSpec, spec: TowerSpec, reads: Reads, x: str) -> None:
    """Outputs at the feature layer, of x [R, C]."""
    x = behind_features(g, writer, spec, x)
    feature_outputs(g, writer, model, reads, _units(g, model, spec, x), x)


def behind_features(g: Graph, writer: WeightsWriter, spec: TowerSpec, x: str) -> str:
    """x [n, C] behind the norm that follows the feature layer, where there is one."""
    return norm(g, writer, x, "tower.norm", spec.eps, spec.norm) if spec.final_norm else x


def feature_outputs(
    g: Graph, writer: WeightsWriter, model: ModelSpec, reads: Reads, units: str, x: str, alive: str | None = None
) -> None:
    """Outputs made of the merged rows [N, merge^2 C] and of x, whose row 0 is the class token's. alive [N, 1]: 0 where a token left."""
    connector = model.connector
    tokens, width = model.picture.tile.units, connector.merged
    g.output(g.node("Unsqueeze", [units, g.integers(0)]), "features", "float32", (1, tokens, width))
    if "class_feature" in reads:
        row = g.node("Slice", [x, g.integers(0), g.integers(1), g.integers(0)])
        if connector.merge > 1:
            row = g.node("Tile", [row, g.integers(1, connector.merge**2)])
        g.output(row, "class_feature", "float32", (1, width))
    if "projected" in reads:
        rows = project(g, writer, connector, units, tokens)
        there = rows if alive is None else g.node("Mul", [rows, alive])
        out = g.node("Unsqueeze", [there, g.integers(0)])
        g.output(out, "projected", "float32", (1, tokens, connector.outputs))


def rotary_tables(g: Graph, writer: WeightsWriter, spec: TowerSpec) -> list[str]:
    """cos and sin [1, R, d/2] of all rows; none where the tower turns nothing."""
    if spec.rotary is None:
        return []
    return [g.weight(writer[stored_name(f"tower.rotary.{name}", spec)]) for name in ("cos", "sin")]


def queries_keys_values(
    g: Graph, writer: WeightsWriter, spec: TowerSpec, p: str, x: str, rows: int, tables: Sequence[str] | None = None
) -> tuple[str, str, str]:
    """Projections of the normed x [rows, C]: three of [rows, heads * d], queries and keys turned where the tower turns them.

    tables  cos and sin [1, rows, d/2]; None: those of all rows
    """
    joined = linear(g, writer, f"{p}.qkv", norm(g, writer, x, f"{p}.norm1", spec.eps, spec.norm), rows)
    if spec.rotary is None:
        q = g.node("Split", [joined], axis=1, num_outputs=3, outputs=3)
        return q, f"{q}_1", f"{q}_2"
    turning = g.node("Split", [joined, g.integers(2 * spec.inner, spec.inner)], axis=1, outputs=2)
    tables = rotary_tables(g, writer, spec) if tables is None else tables
    wide = g.node("Unsqueeze", [turning, g.integers(0)])
    turned = g.node("RotaryEmbedding", [wide, *tables], num_heads=2 * spec.heads)
    q = g.node("Split", [g.node("Squeeze", [turned, g.integers(0)])], axis=1, num_outputs=2, outputs=2)
    return q, f"{q}_1", f"{turning}_1"


def block(
    g: Graph,
    writer: WeightsWriter,
    spec: TowerSpec,
    p: str,
    x: str,
    qkv: tuple[str, str, str],
    rows: int,
    window: int | None = None,
) -> str:
    """Attention and MLP of block `p`, residuals included: x [rows, C] -> [rows, C]. `spec` is the tower as that block sees it.

    window  patches along a side of the windows that rows attend inside, one window's rows after another's; None: to all rows
    """
    mixed = attention(g, spec, qkv, rows, rows) if window is None else _windowed(g, spec, qkv, rows, window**2)
    return after_attention(g, writer, spec, p, x, mixed, rows)


def _windowed(g: Graph, spec: TowerSpec, qkv: tuple[str, str, str], rows: int, inside: int) -> str:
    """As `attention`, each run of `inside` rows by itself."""
    shape = g.integers(rows // inside, inside, spec.inner)
    apart = [g.node("Reshape", [value, shape]) for value in qkv]
    mixed = g.node("MultiHeadAttention", apart, domain=CONTRIB, num_heads=spec.heads)
    g.declare(mixed, (rows // inside, inside, spec.inner))
    return g.node("Reshape", [mixed, g.integers(rows, spec.inner)])


def attention(
    g: Graph, spec: TowerSpec, qkv: tuple[str, str, str], asking: int, rows: int, bias: str | None = None
) -> str:
    """q [asking, heads * d], k and v [rows, heads * d] -> what the heads read [asking, heads * d], before the o-projection.

    bias [1, 1, asking, rows]: added to the logits
    """
    width = spec.inner
    wide = [
        g.node("Reshape", [value, g.integers(1, n, width)]) for value, n in zip(qkv, (asking, rows, rows), strict=True)
    ]
    further = [] if bias is None else ["", "", bias]
    mixed = g.node("MultiHeadAttention", [*wide, *further], domain=CONTRIB, num_heads=spec.heads)
    g.declare(mixed, (1, asking, width))
    return g.node("Reshape", [mixed, g.integers(asking, width)])


def after_attention(g: Graph, writer: WeightsWriter, spec: TowerSpec, p: str, x: str, mixed: str, rows: int) -> str:
    """o-projection and MLP of block `p` on any of its rows: x [rows, C], mixed [rows, heads * d] -> [rows, C]."""
    return fed_forward(g, writer, spec, p, attended(g, writer, spec, p, x, mixed, rows), rows)


def attended(g: Graph, writer: WeightsWriter, spec: TowerSpec, p: str, x: str, mixed: str, rows: int) -> str:
    """x [rows, C] behind the attention of block `p`, of which mixed [rows, heads * d] is what the heads read."""
    out = linear(g, writer, f"{p}.o", mixed, rows)
    return g.node("Add", [x, _scaled(g, writer, spec, out, f"{p}.scale1")])


def fed_forward(g: Graph, writer: WeightsWriter, spec: TowerSpec, p: str, x: str, rows: int) -> str:
    """x [rows, C] behind the MLP of block `p`."""
    return g.node("Add", [x, _scaled(g, writer, spec, _mlp(g, writer, spec, p, x, rows), f"{p}.scale2")])


def embed(g: Graph, writer: WeightsWriter, spec: TowerSpec, pixels: str) -> str:
    """pixels [1, 3, P, P] or those of a view -> the input of block 0 [N + 1, C]."""
    bias = [g.weight(writer["tower.patch.bias"])] if spec.patch_bias else []
    strides = [spec.patch_px, spec.patch_px]
    grid = g.node(
        "Conv", [pixels, g.weight(writer["tower.patch.weight"]), *bias], strides=strides, kernel_shape=strides
    )
    columns = g.node("Reshape", [grid, g.integers(spec.hidden, spec.grid[0] * spec.grid[1])])
    patches = in_windows(g, g.node("Transpose", [columns], perm=[1, 0]), spec.grid, spec.hidden, spec.window)
    x = g.node("Concat", [g.weight(writer["tower.prefix"]), patches], axis=0) if spec.prefix_tokens else patches
    if spec.table != 0:
        table = "tower.position" if spec.table is None else stored_name("tower.position", spec)
        x = g.node("Add", [x, g.weight(writer[table])])
    return norm(g, writer, x, "tower.pre_norm", spec.eps, spec.norm) if spec.pre_norm else x


def _mlp(g: Graph, writer: WeightsWriter, spec: TowerSpec, block: str, x: str, rows: int) -> str:
    h = norm(g, writer, x, f"{block}.norm2", spec.eps, spec.norm)
    if not spec.swiglu:
        inner = activation(g, spec.activation, linear(g, writer, f"{block}.fc1", h, rows), (rows, spec.mlp))
        return linear(g, writer, f"{block}.fc2", inner, rows)
    both = linear(g, writer, f"{block}.fc_in", h, rows)
    gate = g.node("Split", [both], axis=1, num_outputs=2, outputs=2)
    inner = g.node("Mul", [activation(g, "silu", gate, (rows, spec.mlp)), f"{gate}_1"])
    return linear(g, writer, f"{block}.fc_out", inner, rows)


def _scaled(g: Graph, writer: WeightsWriter, spec: TowerSpec, x: str, name: str) -> str:
    return g.node("Mul", [x, g.weight(writer[name])]) if spec.layer_scale else x
