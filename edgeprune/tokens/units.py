"""Visual tokens as units: blocks of merge x merge patches, in eager torch; the graphs do the same (`edgeprune_export.graphs.units`)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def merged(features: Tensor, merge: int) -> Tensor:
    """Channels of each block side by side in raster order: [side^2, C] -> [(side / merge)^2, merge^2 * C]."""
    if merge == 1:
        return features
    side, width = _side(features.shape[0]), features.shape[1]
    blocks = features.view(side // merge, merge, side // merge, merge, width).permute(0, 2, 1, 3, 4)
    return blocks.reshape((side // merge) ** 2, merge * merge * width)


def pooled(values: Tensor, merge: int, dim: int) -> Tensor:
    """Mean over the patches of each block, along `dim`, which counts patches in raster order."""
    if merge == 1:
        return values
    last = values.movedim(dim, -1)
    side = _side(last.shape[-1])
    blocks = last.reshape(*last.shape[:-1], side // merge, merge, side // merge, merge).mean(dim=(-3, -1))
    return blocks.flatten(-2).movedim(-1, dim)


def _side(patches: int) -> int:
    """Where patches are merged there is nothing but patches."""
    side = math.isqrt(patches)
    assert side * side == patches
    return side
