"""pool: rectangular cells of the grid of patches become their means, as a control."""

from __future__ import annotations

import numpy as np

from edgeprune.later import torch
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.inside.tower.rows import BlockRows, Rows, TowerCut, joined


def _step(rows: Rows, block: BlockRows, cut: TowerCut) -> Rows:
    """Exactly K cells; a cell lies at its middle patch."""
    height, width = cut.grid
    y, x = np.divmod(np.arange(height * width), width)
    cell = _cells(y, x, cut.grid, cut.keep)
    stay = np.asarray([_middle(y[cell == i], x[cell == i], width) for i in range(cut.keep)])
    gone = np.setdiff1d(np.arange(height * width), stay)
    index = torch.cat([torch.arange(cut.first), torch.from_numpy(stay) + cut.first])
    return joined(rows, index, torch.from_numpy(gone) + cut.first, torch.from_numpy(cell[gone]) + cut.first)


def _cells(y: np.ndarray, x: np.ndarray, grid: tuple[int, int], cells: int) -> np.ndarray:
    """Cell of every patch, as the method downsample makes them: bands of rows, and in each so many cells that there are K in all."""
    height, width = grid
    ideal = sum(d * d * width <= 4 * cells * height for d in range(1, 2 * height, 2))
    bands = max(min(ideal, height), -(-cells // width), 1)
    band = y * bands // height
    start, end = band * cells // bands, (band + 1) * cells // bands
    found: np.ndarray = start + x * (end - start) // width
    return found


def _middle(y: np.ndarray, x: np.ndarray, width: int) -> int:
    return int((y.min() + y.max()) // 2 * width + (x.min() + x.max()) // 2)


POOL = TowerMethod(
    "pool",
    "rectangular cells of the grid of patches become their means",
    "control",
    "control",
    step=_step,
    sizes=True,
    once=True,
)
