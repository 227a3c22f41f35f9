"""Visual tokens as units: blocks of merge x merge patches, in eager torch; the graphs do the same (`edgeprune_export.graphs.units`)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def merged(features: Tensor, merge: int, grid: tuple[int, int] | None = None) -> Tensor:
    """Channels of each block side by side in raster order: [h w, C] -> [(h / merge) (w / merge), merge^2 * C].

    grid  (h, w); None: a square
    """
    if merge == 1:
        return features
    (rows, cols), width = grid or _square(features.shape[0]), features.shape[1]
    blocks = features.view(rows // merge, merge, cols // merge, merge, width).permute(0, 2, 1, 3, 4)
    return blocks.reshape(rows * cols // merge**2, merge * merge * width)


def pooled(values: Tensor, merge: int, dim: int, grid: tuple[int, int] | None = None) -> Tensor:
    """Mean over the patches of each block, along `dim`, which counts patches in raster order; grid as in `merged`."""
    if merge == 1:
        return values
    last = values.movedim(dim, -1)
    rows, cols = grid or _square(last.shape[-1])
    blocks = last.reshape(*last.shape[:-1], rows // merge, merge, cols // merge, merge).mean(dim=(-3, -1))
    return blocks.flatten(-2).movedim(-1, dim)


def _square(patches: int) -> tuple[int, int]:
    """Where patches are merged there is nothing but patches."""
    side = math.isqrt(patches)
    assert side * side == patches
    return side, side
