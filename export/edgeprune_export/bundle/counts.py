"""What the graphs of a checkpoint would do, before any is made: counts as `roofline_counts` reads them from the graphs.

From edgeprune's own cost formulas, for one budget of K tokens. Element-wise values are not counted, which are little beside the
products of any model worth projecting; the select graph is taken to be its connector, which is nearly all of it.
"""

from __future__ import annotations

import msgspec

from edgeprune.models.spec import ConnectorSpec, DecoderSpec, ModelSpec, TowerSpec, Width
from edgeprune.structure import cost
from edgeprune_runtime.spec import GraphWork, WeightPrecision, in_vision

#: Computing nodes of a block as exported, and of a select graph: for launch overhead only.
NODES_OF_A_BLOCK, NODES_OF_SELECT = 15, 50
_BYTES: dict[WeightPrecision, float] = {"fp32": 4, "int8": 1, "int4": cost.INT4}


def count_spec(spec: ModelSpec, precision: WeightPrecision, chunk: int, keep: int) -> dict[str, GraphWork]:
    """Counts of tower, select, prefill (one chunk), decode and head for a bundle of `spec` that keeps `keep` tokens."""
    vision, language, connector = spec.vision, spec.language, spec.connector
    tower = _widths(vision, spec.feature_layer + 1)
    blocks = _widths(language, language.layers)
    groups = sum(width.groups for width in blocks)
    pairs = 2 * groups * (language.heads // language.kv_heads) * language.head_dim
    rows = cost.macs_of_language(language, 1)
    per_row = round(rows.of(blocks) - rows.fixed) - pairs
    head = language.vocab * language.hidden
    joined = sum(_weights(one) for one in (connector, *(deep.connector for deep in spec.deepstack)))
    stored = cost.bytes_of_language(language, precision, 0, 4)
    block_bytes = stored.of(blocks) - stored.fixed
    seen = in_vision(precision)

    def counted(macs: int, weight_bytes: float, nodes: int, precision: WeightPrecision = precision) -> GraphWork:
        kind = "linear" if precision == "fp32" else f"linear_{precision}"
        return GraphWork({kind: macs}, weight_bytes={precision: round(weight_bytes)}, nodes=nodes)

    def cached(rows: int) -> GraphWork:
        nodes, cache_bytes = NODES_OF_A_BLOCK * len(blocks), 2 * groups * language.head_dim * 4
        return msgspec.structs.replace(
            counted(rows * per_row, block_bytes, nodes), pair_macs=pairs, cache_bytes=cache_bytes
        )

    tower_bytes = cost.bytes_of_tower(vision, precision).of(tower)
    return {
        "tower": counted(round(cost.macs_of_tower(vision).of(tower)), tower_bytes, NODES_OF_A_BLOCK * len(tower), seen),
        "select": counted(keep * joined, joined * _BYTES[seen], NODES_OF_SELECT, seen),
        "prefill": cached(chunk),
        "decode": cached(1),
        "head": counted(head, head * _BYTES[precision], 1),
    }


def _weights(connector: ConnectorSpec) -> int:
    """Of the linear layers of a connector."""
    if connector.layers == 1:
        return connector.merged * connector.outputs
    return connector.middle * (connector.merged + connector.outputs)


def _widths(spec: TowerSpec | DecoderSpec, blocks: int) -> tuple[Width, ...]:
    """Widths of the blocks that are read, those of the source where blocks do not differ."""
    heads = spec.kv_heads if isinstance(spec, DecoderSpec) else spec.heads
    return spec.widths[:blocks] or (Width(heads, spec.mlp),) * blocks
