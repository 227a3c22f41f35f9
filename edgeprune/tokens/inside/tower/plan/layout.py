"""Where the rows of an uncut tile stand: groups of patches that the connector merges are neighbours, so that whole groups can leave."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeprune.models.spec import TowerSpec

Numbers = NDArray[np.int64]


def raster_of_rows(tower: TowerSpec, merge: int) -> Numbers:
    """Which row of the tower, the prefix and then patches in raster order, each row is: [R]."""
    rows, cols = tower.grid
    patches = (
        np.arange(rows * cols).reshape(rows // merge, merge, cols // merge, merge).transpose(0, 2, 1, 3).reshape(-1)
    )
    prefix = tower.prefix_tokens
    return np.concatenate([np.arange(prefix), prefix + patches]).astype(np.int64)


def tokens_of_raster(tower: TowerSpec, merge: int) -> Numbers:
    """Number of the visual token that each row of the tower in raster order belongs to: [R]; -1 for the class token."""
    rows, cols = (np.arange(extent) // merge for extent in tower.grid)
    units = (rows[:, None] * (tower.grid[1] // merge) + cols).reshape(-1)
    others = tower.prefix_tokens - tower.class_tokens  # DeiT's distillation token goes on as a token
    return np.concatenate([[-1] * tower.class_tokens, np.arange(others), others + units]).astype(np.int64)


def first_rows(tower: TowerSpec, merge: int) -> Numbers:
    """The first row in raster order of every visual token: [N]."""
    tokens = tokens_of_raster(tower, merge)
    return np.asarray([np.flatnonzero(tokens == n)[0] for n in range(tokens.max() + 1)], np.int64)
