"""pool: every window of patches becomes its mean, as a control."""

from __future__ import annotations

import math

import numpy as np

from edgeprune.later import torch
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.inside.tower.rows import BlockRows, Cut, Rows, joined


def side_of(tokens: float) -> int:
    """Windows along a side for about so many of them."""
    return max(1, round(math.sqrt(tokens)))


def cells(grid: tuple[int, int], side: int) -> np.ndarray:
    """Window of every patch, of side x side windows: [h w]."""
    rows, cols = ((np.arange(extent) * side) // extent for extent in grid)
    found: np.ndarray = (rows[:, None] * side + cols).reshape(-1)
    return found


def centres(grid: tuple[int, int], side: int) -> np.ndarray:
    """The patch nearest the middle of each window: [side^2], ascending by window."""
    rows, cols = ([int(np.mean(np.flatnonzero(np.arange(n) * side // n == i))) for i in range(side)] for n in grid)
    return np.asarray([row * grid[1] + col for row in rows for col in cols])


def _step(rows: Rows, block: BlockRows, cut: Cut) -> Rows:
    side, tokens = math.isqrt(cut.keep), cut.grid[0] * cut.grid[1]
    stay = centres(cut.grid, side)
    gone = np.setdiff1d(np.arange(tokens), stay)
    first, onto = cut.first, cells(cut.grid, side)[gone]
    index = torch.cat([torch.arange(first), torch.from_numpy(stay) + first])
    return joined(rows, index, torch.from_numpy(gone) + first, torch.from_numpy(onto) + first)


POOL = TowerMethod(
    "pool",
    "windows of the grid of patches become their means",
    "control",
    "control",
    step=_step,
    sizes=True,
    once=True,
    squares=True,
)
