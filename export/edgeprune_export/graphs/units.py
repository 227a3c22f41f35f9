"""Patches as visual tokens: blocks of merge x merge patches, windows of patches, and grids inside a square tile, as nodes.

Eager torch does the first in `edgeprune.tokens.units`.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune_export.onnx.graph import Graph

Grid2 = tuple[int, int]
"""(rows, columns)"""


def merged(g: Graph, x: str, grid: Grid2, width: int, merge: int) -> str:
    """Channels of each block side by side in raster order: x [h w, width] -> [(h / merge) (w / merge), merge^2 * width]."""
    if merge == 1:
        return x
    rows, cols = grid[0] // merge, grid[1] // merge
    lines = g.node("Reshape", [x, g.integers(rows, merge, cols, merge * width)])
    blocks = g.node("Transpose", [lines], perm=[0, 2, 1, 3])
    return g.node("Reshape", [blocks, g.integers(rows * cols, merge**2 * width)])


def pooled(g: Graph, x: str, leading: Sequence[int], grid: Grid2, merge: int) -> str:
    """Mean over the patches of each block, along the last axis: x [*leading, h w] -> [*leading, (h / merge) (w / merge)]."""
    if merge == 1:
        return x
    rows, cols, first = grid[0] // merge, grid[1] // merge, len(leading)
    parted = g.node("Reshape", [x, g.integers(*leading, rows, merge, cols, merge)])
    means = g.node("ReduceMean", [parted, g.integers(first + 1, first + 3)], keepdims=0)
    return g.node("Reshape", [means, g.integers(*leading, rows * cols)])


def in_windows(g: Graph, x: str, grid: Grid2, width: int, window: int | None) -> str:
    """Rows of patches in raster order -> window after window, each in raster order: x [h w, width] -> the same shape."""
    if window is None:
        return x
    rows, cols = grid[0] // window, grid[1] // window
    lines = g.node("Reshape", [x, g.integers(rows, window, cols, window * width)])
    windows = g.node("Transpose", [lines], perm=[0, 2, 1, 3])
    return g.node("Reshape", [windows, g.integers(grid[0] * grid[1], width)])


def in_raster(g: Graph, x: str, leading: Sequence[int], grid: Grid2, trailing: int, window: int | None) -> str:
    """Back to raster order along one axis: x [*leading, h w, trailing] -> the same shape."""
    if window is None:
        return x
    rows, cols, first = grid[0] // window, grid[1] // window, len(leading)
    windows = g.node("Reshape", [x, g.integers(*leading, rows, cols, window, window * trailing)])
    perm = [*range(first), first, first + 2, first + 1, first + 3]
    lines = g.node("Transpose", [windows], perm=perm)
    return g.node("Reshape", [lines, g.integers(*leading, grid[0] * grid[1], trailing)])


def in_tile(g: Graph, x: str, leading: Sequence[int], grid: Grid2, trailing: int, side: int) -> str:
    """A grid of units as the upper left part of a square tile, zeros around it: x [*leading, h w, trailing] ->
    [*leading, side^2, trailing]."""
    if grid == (side, side):
        return x
    first = len(leading)
    lines = g.node("Reshape", [x, g.integers(*leading, *grid, trailing)])
    behind = [*[0] * first, side - grid[0], side - grid[1], 0]
    wide = g.node("Pad", [lines, g.integers(*[0] * (first + 3), *behind)])
    return g.node("Reshape", [wide, g.integers(*leading, side**2, trailing)])
