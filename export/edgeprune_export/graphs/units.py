"""Patches as visual tokens: blocks of merge x merge patches, as nodes. Eager torch does the same in `edgeprune.tokens.units`."""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune_export.onnx.graph import Graph


def merged(g: Graph, x: str, side: int, width: int, merge: int) -> str:
    """Channels of each block side by side in raster order: x [side^2, width] -> [(side / merge)^2, merge^2 * width]."""
    if merge == 1:
        return x
    blocks = side // merge
    lines = g.node("Reshape", [x, g.integers(blocks, merge, blocks, merge * width)])
    return g.node("Reshape", [g.node("Transpose", [lines], perm=[0, 2, 1, 3]), g.integers(blocks**2, merge**2 * width)])


def pooled(g: Graph, x: str, leading: Sequence[int], side: int, merge: int) -> str:
    """Mean over the patches of each block, along the last axis: x [*leading, side^2] -> [*leading, (side / merge)^2]."""
    if merge == 1:
        return x
    blocks, first = side // merge, len(leading)
    parted = g.node("Reshape", [x, g.integers(*leading, blocks, merge, blocks, merge)])
    means = g.node("ReduceMean", [parted, g.integers(first + 1, first + 3)], keepdims=0)
    return g.node("Reshape", [means, g.integers(*leading, blocks**2)])
