"""Where patches stand, as constants of the weights file: rotary tables and resampled tables of positions, one for each grid.

Rows are in the order in which blocks see them: in raster order, or window after window.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeprune.models.spec import TowerSpec
from edgeprune_export.graphs.linear import Reader
from edgeprune_export.onnx.weights import WeightsWriter

Floats = NDArray[np.float32]


def store_positions(writer: WeightsWriter, read: Reader, spec: TowerSpec) -> None:
    """Write what says where the patches of this view stand."""
    if spec.rotary is not None:
        for name, values in zip(("cos", "sin"), rotary_tables(spec), strict=True):
            writer.add(stored_name(f"tower.rotary.{name}", spec), [values])
    if spec.table is None:
        if "tower.position" not in writer:
            writer.add("tower.position", read("tower.position"))
    elif spec.table:
        table = np.concatenate(list(read("tower.position")))
        rows = resampled(table, spec.grid)
        writer.add(stored_name("tower.position", spec), [rows[_order(spec)]])


def stored_name(name: str, spec: TowerSpec) -> str:
    """Of a constant that is another one for each grid."""
    return f"{name}.{spec.grid[0]}x{spec.grid[1]}"


def patch_places(spec: TowerSpec) -> NDArray[np.int64]:
    """[R, 2]: row and column of every patch."""
    places = np.stack(np.divmod(np.arange(spec.positions), spec.grid[1]), axis=1)
    ordered: NDArray[np.int64] = places[_order(spec)]
    return ordered


def rotary_tables(spec: TowerSpec) -> tuple[Floats, Floats]:
    """cos and sin, [1, R, d/2] each: the first quarter of a head turns with the row, the next with the column (arXiv 2409.12191).

    Angles in float32, as transformers computes them.
    """
    assert spec.rotary is not None
    half = spec.head_dim // 2
    exponent = np.arange(0, half, 2, dtype=np.float32) / np.float32(half)
    inverse = (np.float32(1.0) / np.power(np.float32(spec.rotary), exponent)).astype(np.float32)
    angle = (patch_places(spec).astype(np.float32)[:, :, None] * inverse).reshape(1, spec.positions, half)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def resampled(table: Floats, grid: tuple[int, int]) -> Floats:
    """A square table [side^2, C] at the places of a grid [rows * columns, C]: bilinear, corners on corners, in float64."""
    side = round(len(table) ** 0.5)
    square = table.reshape(side, side, -1).astype(np.float64)
    for axis, length in enumerate(grid):
        at = np.linspace(0, side - 1, length)
        low = np.minimum(np.floor(at).astype(np.int64), max(side - 2, 0))
        share = (at - low).reshape((-1,) + (1,) * (2 - axis))
        above = np.minimum(low + 1, side - 1)
        square = np.take(square, low, axis) * (1 - share) + np.take(square, above, axis) * share
    return square.reshape(grid[0] * grid[1], -1).astype(np.float32)


def _order(spec: TowerSpec) -> NDArray[np.int64]:
    """[R]: number in raster order of every row."""
    rows, cols = spec.grid
    raster = np.arange(rows * cols, dtype=np.int64)
    if (window := spec.window) is None:
        return raster
    parted = raster.reshape(rows // window, window, cols // window, window)
    order: NDArray[np.int64] = parted.transpose(0, 2, 1, 3).reshape(-1)
    return order
