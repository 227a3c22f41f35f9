"""pool: rectangular cells of the grid of patches become their means, as a control."""

from __future__ import annotations

import numpy as np

from edgeprune.later import torch
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.inside.tower.rows import BlockRows, Cut, Rows, joined
from edgeprune.tokens.pool import cell_of


def _step(rows: Rows, block: BlockRows, cut: Cut) -> Rows:
    """Exactly K cells, as the method downsample makes them; a cell lies at its middle patch."""
    height, width = cut.grid
    y, x = np.divmod(np.arange(height * width), width)
    size = torch.tensor(height), torch.tensor(width), torch.tensor(cut.keep)
    cell = cell_of(torch.from_numpy(y), torch.from_numpy(x), *size, height).numpy()
    stay = np.asarray([_middle(y[cell == i], x[cell == i], width) for i in range(cut.keep)])
    gone = np.setdiff1d(np.arange(height * width), stay)
    index = torch.cat([torch.arange(cut.first), torch.from_numpy(stay) + cut.first])
    return joined(rows, index, torch.from_numpy(gone) + cut.first, torch.from_numpy(cell[gone]) + cut.first)


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
