"""What a part costs, as a linear function of its blocks' widths: parameters, MACs, bytes, seconds or joules.

Every count is that of the graphs that edgeprune exports; tests count them again from the ONNX files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeprune.models.spec import DecoderSpec, TowerSpec, Width
from edgeprune_runtime.spec import WeightPrecision


@dataclass(frozen=True)
class Price:
    """fixed + sum over blocks of (block + groups * group + channels * channel).

    last  (group, channel) of the last block, where that does less than the others: a classifier's sees one row at its end
    """

    fixed: float
    block: float
    group: float
    channel: float
    last: tuple[float, float] | None = None

    def at(self, place: int, blocks: int) -> tuple[float, float]:
        """(group, channel) of the block at this place."""
        return self.last if self.last is not None and place == blocks - 1 else (self.group, self.channel)

    def of(self, widths: Sequence[Width]) -> float:
        total = self.fixed + self.block * len(widths)
        for place, width in enumerate(widths):
            group, channel = self.at(place, len(widths))
            total += width.groups * group + width.mlp * channel
        return total


@dataclass(frozen=True)
class _Count:
    """Numbers of linear weights, of their output rows, and of everything else (norms, biases, scales)."""

    weights: int
    rows: int
    rest: int

    def parameters(self) -> int:
        return self.weights + self.rest

    def bytes(self, precision: WeightPrecision) -> int:
        """int8: one byte per weight and a float32 scale per output row; all else float32."""
        return 4 * self.parameters() if precision == "fp32" else self.weights + 4 * (self.rows + self.rest)


def parameters(spec: TowerSpec | DecoderSpec, *, classes: int = 0) -> Price:
    """Parameters of a part; a classifier has a final norm and a head of `classes` besides."""
    block, group, channel = _counts(spec)
    fixed = _tower_fixed(spec) if isinstance(spec, TowerSpec) else _language_fixed(spec)
    head = _head(spec, classes)
    return Price(fixed + head.parameters(), block.parameters(), group.parameters(), channel.parameters())


def macs_of_tower(spec: TowerSpec) -> Price:
    """Multiply-accumulates on one tile of R rows."""
    _, group, channel = _counts(spec)
    rows = spec.positions
    embed = spec.patches**2 * spec.hidden * 3 * spec.patch_px**2
    return Price(embed, 0, rows * group.weights + 2 * rows**2 * spec.head_dim, rows * channel.weights)


def macs_of_classifier(spec: TowerSpec, classes: int) -> Price:
    """As a tower, with a head; after the projections, the last block sees the class token's row only."""
    tower = macs_of_tower(spec)
    rows, width, lane = spec.positions, spec.hidden, spec.head_dim
    group = rows * 3 * width * lane + 2 * rows * lane + width * lane
    return replace(tower, fixed=tower.fixed + width * classes, last=(group, tower.channel / rows))


def macs_of_language(spec: DecoderSpec, positions: int) -> Price:
    """Multiply-accumulates of a prompt of `positions` positions with causal attention, and of the head once."""
    _, group, channel = _counts(spec)
    share = spec.heads // spec.kv_heads
    attention = positions * (positions + 1) * share * spec.head_dim
    return Price(spec.vocab * spec.hidden, 0, positions * group.weights + attention, positions * channel.weights)


def bytes_of_tower(spec: TowerSpec, precision: WeightPrecision, *, classes: int = 0) -> Price:
    """Weights as stored by the exporter, of a classifier with its head."""
    block, group, channel = (count.bytes(precision) for count in _counts(spec))
    return Price(4 * _tower_fixed(spec) + _head(spec, classes).bytes(precision), block, group, channel)


def bytes_of_language(spec: DecoderSpec, precision: WeightPrecision, capacity: int, embedding_bytes: int) -> Price:
    """Weights as stored by the exporter, and a float32 KV cache of `capacity` positions.

    embedding_bytes  per number of the embedding table where it is not the head too (2 for a float16 checkpoint, else 4)
    """
    block, group, channel = (count.bytes(precision) for count in _counts(spec))
    table = spec.vocab * spec.hidden
    shared = spec.tied and precision == "fp32"
    head = 0 if shared else table * 4 if precision == "fp32" else table + 4 * spec.vocab
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
    patch = spec.hidden * 3 * spec.patch_px**2 + (spec.hidden if spec.patch_bias else 0)
    norm = 2 * spec.hidden if spec.norm == "layer" else spec.hidden
    norms = norm * (int(spec.pre_norm) + int(spec.final_norm))
    return patch + norms + (spec.positions + spec.prefix_tokens) * spec.hidden


def _language_fixed(spec: DecoderSpec) -> int:
    return spec.vocab * spec.hidden * (1 if spec.tied else 2) + spec.hidden
