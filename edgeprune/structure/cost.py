"""What a part costs, as a linear function of its blocks' widths: parameters, MACs, bytes, seconds or joules.

Every count is that of the graphs that edgeprune exports; tests count them again from the ONNX files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgeprune.models.spec import DecoderSpec, TowerSpec, Width
from edgeprune_runtime.spec import WeightPrecision, in_vision


@dataclass(frozen=True)
class Price:
    """fixed + sum over blocks of (block + groups * group + channels * channel).

    last   (group, channel) of the last block, where that does less than the others: a classifier's sees one row at its end
    apart  group of blocks where it costs something else: of those that attend to the whole tile where others have windows
    """

    fixed: float
    block: float
    group: float
    channel: float
    last: tuple[float, float] | None = None
    apart: Mapping[int, float] = field(default_factory=dict)

    def at(self, block: int, stay: Sequence[int]) -> tuple[float, float]:
        """(group, channel) of a block where the blocks `stay` are left, by their numbers in the whole model."""
        if self.last is not None and block == stay[-1]:
            return self.last
        return self.apart.get(block, self.group), self.channel

    def of(self, widths: Sequence[Width], stay: Sequence[int] | None = None) -> float:
        """Cost of blocks of these widths; stay: their numbers in the whole model, from 0 where none are given."""
        stay = range(len(widths)) if stay is None else stay
        total = self.fixed + self.block * len(widths)
        for block, width in zip(stay, widths, strict=True):
            group, channel = self.at(block, stay)
            total += width.groups * group + width.mlp * channel
        return total


#: Bytes of a weight in its block of 32: half a byte, and its share of a scale in half precision.
INT4 = 0.5 + 2 / 32


@dataclass(frozen=True)
class _Count:
    """Numbers of linear weights, of their output rows, and of everything else (norms, biases, scales)."""

    weights: int
    rows: int
    rest: int

    def parameters(self) -> int:
        return self.weights + self.rest

    def bytes(self, precision: WeightPrecision) -> float:
        """int8: one byte per weight and a float32 scale per output row; int4: blocks of whole rows are taken to be full; all else float32."""
        if precision == "fp32":
            return 4 * self.parameters()
        if precision == "int4":
            return INT4 * self.weights + 4 * self.rest
        return self.weights + 4 * (self.rows + self.rest)


def parameters(spec: TowerSpec | DecoderSpec, *, classes: int = 0) -> Price:
    """Parameters of a part; a classifier has a final norm and a head of `classes` besides."""
    block, group, channel = _counts(spec)
    fixed = _tower_fixed(spec) if isinstance(spec, TowerSpec) else _language_fixed(spec)
    head = _head(spec, classes)
    return Price(fixed + head.parameters(), block.parameters(), group.parameters(), channel.parameters())


def macs_of_tower(spec: TowerSpec) -> Price:
    """Multiply-accumulates on one tile of R rows, or on the view of `spec`."""
    _, group, channel = _counts(spec)
    rows = spec.positions
    embed = spec.grid[0] * spec.grid[1] * spec.hidden * 3 * spec.patch_px**2

    def seeing(keys: int) -> int:
        """Of a head group whose rows attend to so many."""
        return rows * group.weights + 2 * rows * keys * spec.head_dim

    usual = seeing(rows if spec.window is None else spec.window**2)
    apart = dict.fromkeys(spec.full, seeing(rows)) if spec.window is not None else {}
    return Price(embed, 0, usual, rows * channel.weights, apart=apart)


def macs_of_classifier(spec: TowerSpec, classes: int) -> Price:
    """As a tower, with a head; after the projections, the last block sees the class token's row only."""
    tower = macs_of_tower(spec)
    rows, width, lane = spec.positions, spec.hidden, spec.head_dim
    group = rows * 3 * width * lane + 2 * rows * lane + width * lane
    return replace(tower, fixed=tower.fixed + width * classes, last=(group, tower.channel / rows))


def macs_of_cut_tower(spec: TowerSpec, rows: Sequence[tuple[int, int]]) -> float:
    """Of a tile whose blocks have so many rows (that attend, that the MLP sees), without what the cuts compute themselves."""
    tower, patches = macs_of_tower(spec), spec.positions
    total = tower.fixed
    for i, (attending, fed) in enumerate(rows):
        width = spec.at(i)
        projected = (tower.group - 2 * patches**2 * spec.head_dim) / patches
        total += width.heads * attending * (projected + 2 * attending * spec.head_dim)
        total += width.mlp * fed * tower.channel / patches
    return total


def macs_of_cut_classifier(spec: TowerSpec, classes: int, rows: Sequence[tuple[int, int]]) -> float:
    """Likewise; the last block asks with the class token's row only."""
    last, at = rows[-1][0], spec.at(spec.layers - 1)
    lane, hidden = spec.head_dim, spec.hidden
    asked = at.heads * (last * 3 * hidden * lane + 2 * last * lane + hidden * lane)
    fed = at.mlp * macs_of_tower(spec).channel / spec.positions
    return macs_of_cut_tower(spec, rows[:-1]) + hidden * classes + asked + fed


def macs_of_language(spec: DecoderSpec, positions: int) -> Price:
    """Multiply-accumulates of a prompt of `positions` positions with causal attention, and of the head once."""
    _, group, channel = _counts(spec)
    share = spec.heads // spec.kv_heads
    attention = positions * (positions + 1) * share * spec.head_dim
    return Price(spec.vocab * spec.hidden, 0, positions * group.weights + attention, positions * channel.weights)


def macs_of_cut_language(spec: DecoderSpec, rows: Sequence[int]) -> float:
    """Of a prompt that has so many rows in each layer, and of the head once, without what rankings compute."""
    total = float(spec.vocab * spec.hidden)
    for layer, positions in enumerate(rows):
        price, at = macs_of_language(spec, positions), spec.at(layer)
        total += at.kv_heads * price.group + at.mlp * price.channel
    return total


def bytes_of_tower(
    spec: TowerSpec, precision: WeightPrecision, *, classes: int = 0, views: Sequence[tuple[int, int]] = ()
) -> Price:
    """Weights as stored by the exporter, of a classifier with its head.

    views  the parts of a tile that there are graphs for, where there are any: what says where patches stand is stored for each
    """
    precision = in_vision(precision)
    block, group, channel = (count.bytes(precision) for count in _counts(spec))
    fixed = _embedding(replace(spec, frames=1)) + sum(
        _placing(replace(spec, view=view)) for view in views or (spec.view,)
    )
    return Price(4 * fixed + _head(spec, classes).bytes(precision), block, group, channel)


def bytes_of_language(spec: DecoderSpec, precision: WeightPrecision, capacity: int, embedding_bytes: int) -> Price:
    """Weights as stored by the exporter, and a float32 KV cache of `capacity` positions.

    embedding_bytes  per number of the embedding table where it is not the head too (2 for a float16 checkpoint, else 4)
    """
    block, group, channel = (count.bytes(precision) for count in _counts(spec))
    table = spec.vocab * spec.hidden
    shared = spec.tied and precision == "fp32"
    head = 0 if shared else _Count(table, spec.vocab, 0).bytes(precision)
    fixed = table * (4 if shared else embedding_bytes) + head + 4 * spec.hidden
    return Price(fixed, block, group + 2 * capacity * spec.head_dim * 4, channel)


def _counts(spec: TowerSpec | DecoderSpec) -> tuple[_Count, _Count, _Count]:
    """Of a block without units, of one head group, of one channel."""
    width = spec.hidden
    if isinstance(spec, TowerSpec):
        share, inner = 1, 2 if spec.swiglu else 1
        qkv_bias, mlp_bias = spec.qkv_bias, True
        norms = 4 * width if spec.norm == "layer" else 2 * width
        fixed = norms + 2 * width + (2 * width if spec.layer_scale else 0)  # norms, out biases, scales
    else:
        share, inner = spec.heads // spec.kv_heads, 2
        qkv_bias, mlp_bias = spec.attention_bias, spec.mlp_bias
        fixed = 2 * width + (width if spec.output_bias else 0) + (width if spec.mlp_bias else 0)
        fixed += 2 * spec.head_dim if spec.qk_norm else 0
    lanes = (share + 2) * spec.head_dim
    group = _Count(width * (lanes + share * spec.head_dim), lanes, lanes if qkv_bias else 0)
    channel = _Count(width * (inner + 1), inner, inner if mlp_bias else 0)
    return _Count(0, 2 * width, fixed), group, channel


def _head(spec: TowerSpec | DecoderSpec, classes: int) -> _Count:
    """Final norm and head of a classifier; nothing for 0 classes."""
    return _Count(spec.hidden * classes, classes, classes + 2 * spec.hidden) if classes else _Count(0, 0, 0)


def _tower_fixed(spec: TowerSpec) -> int:
    table = spec.positions if spec.table is None else spec.table**2
    return _embedding(spec) + table * spec.hidden


def _embedding(spec: TowerSpec) -> int:
    """Patches, prefix tokens and the norms that stand outside the blocks."""
    patch = spec.hidden * 3 * spec.frames * spec.patch_px**2 + (spec.hidden if spec.patch_bias else 0)
    norm = 2 * spec.hidden if spec.norm == "layer" else spec.hidden
    return patch + norm * (int(spec.pre_norm) + int(spec.final_norm)) + spec.prefix_tokens * spec.hidden


def _placing(spec: TowerSpec) -> int:
    """What the exporter stores to say where the patches of one view stand: a table of positions, and angles' cosines and sines."""
    table = 0 if spec.table == 0 else spec.positions * spec.hidden
    return table + (0 if spec.rotary is None else spec.positions * spec.head_dim)


def _language_fixed(spec: DecoderSpec) -> int:
    return spec.vocab * spec.hidden * (1 if spec.tied else 2) + spec.hidden
