"""Rules by which a picture becomes tiles, one file per rule: each the data of a manifest and pure functions of it.

A rule of your own is a `Spec` with the methods of `TilingRule` and one more name in `TilingSpec`.
"""

from edgeprune_runtime.pictures.tiling.anyres import Anyres
from edgeprune_runtime.pictures.tiling.base import Grid, Placement, TileSpec, TilingRule
from edgeprune_runtime.pictures.tiling.grids import Grids, distortion, sizes_for
from edgeprune_runtime.pictures.tiling.ratio import NearestRatio
from edgeprune_runtime.pictures.tiling.single import Single
from edgeprune_runtime.pictures.tiling.split import Split

TilingSpec = Single | Anyres | NearestRatio | Split | Grids

__all__ = [
    "Anyres",
    "Grid",
    "Grids",
    "Placement",
    "NearestRatio",
    "Single",
    "Split",
    "TileSpec",
    "TilingRule",
    "TilingSpec",
    "distortion",
    "sizes_for",
]
