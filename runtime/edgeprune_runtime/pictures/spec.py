"""What a manifest says about pictures: one tile, the rule that makes tiles, and how tiles stand in a prompt."""

from __future__ import annotations

import functools
from typing import Literal

import msgspec

from edgeprune_runtime.frozen import Amount, Spec
from edgeprune_runtime.pictures.tiling import Grid, Placement, TileSpec, TilingSpec

Coordinates = Literal["pixels", "thousandths"]


class SequenceSpec(Spec, frozen=True):
    """How the tiles of one picture stand in the prompt. Texts are tokenised together with the prompt around them.

    order     "tiles": tile after tile, each in raster order; "mosaic": the canvas row by row over all tiles
    overview  where the overview stands, beside the canvas
    unpad     mosaic: rows and columns that show padding only leave the sequence
    row_end   name of a learned row behind each row of the mosaic
    before, after      texts around the whole picture
    tile, row, whole   texts before each tile ("{row}" and "{col}" count from 1), behind each row of tiles, and before the overview
    alone     text before the only tile of a picture
    text_tokens  most token ids that all these texts become for one picture
    positions  "sequence": every row has the next position; "canvas": all rows have one time, and beside it their row and their column on
               the canvas; what follows goes on behind the longer side of the canvas
    """

    order: Literal["tiles", "mosaic"] = "tiles"
    overview: Literal["first", "last"] = "first"
    unpad: bool = False
    row_end: str | None = None
    before: str = ""
    after: str = ""
    tile: str = ""
    row: str = ""
    whole: str = ""
    alone: str = ""
    text_tokens: Amount = 0
    positions: Literal["sequence", "canvas"] = "sequence"

    @property
    def axes(self) -> int:
        """Numbers that a position is."""
        return 3 if self.positions == "canvas" else 1


@functools.lru_cache(maxsize=64)
def _counts(tiling: TilingSpec, tile: TileSpec) -> tuple[int, tuple[int, ...]]:
    """Most tiles of a picture, and all numbers of visual tokens. Kept, because a long edge over small tiles has thousands of grids."""
    grids = tiling.grids(tile)
    return max(grid.tiles for grid in grids), tuple(sorted({_tokens(grid, tile) for grid in grids}))


def _tokens(placed: Placement | Grid, tile: TileSpec) -> int:
    if placed.view is None:
        return placed.tiles * tile.units
    return placed.tiles * len(tile.units_of(placed.view))


class PictureSpec(Spec, frozen=True):
    """From a picture to visual tokens; mirrors the checkpoint's own image processor and prompt.

    coordinates  how the model names places: "pixels" of the resized picture, or "thousandths" of its sides; None: it is not known to
    """

    tile: TileSpec
    tiling: TilingSpec
    sequence: SequenceSpec = SequenceSpec()
    coordinates: Coordinates | None = None

    @property
    def tiles_max(self) -> int:
        """Largest number of tiles of any picture, overview included."""
        return _counts(self.tiling, self.tile)[0]

    @property
    def token_counts(self) -> tuple[int, ...]:
        """Every number of visual tokens that a picture can have, its padding included, ascending."""
        return _counts(self.tiling, self.tile)[1]

    @property
    def candidates_max(self) -> int:
        """Most visual tokens of a picture."""
        return self.token_counts[-1]

    def tokens_of(self, placed: Placement | Grid) -> int:
        """Visual tokens of a picture so placed, its padding included."""
        return _tokens(placed, self.tile)

    @property
    def views(self) -> tuple[tuple[int, int], ...]:
        """Sizes (height, width) of the parts of a tile that are looked at; none where all of every tile is."""
        return tuple(grid.view for grid in self.tiling.grids(self.tile) if grid.view is not None)

    @property
    def separators_max(self) -> int:
        """Most rows beside visual tokens that a picture takes in a prompt."""
        rows = max(grid.rows for grid in self.tiling.grids(self.tile)) * self.tile.side
        return self.sequence.text_tokens + (rows if self.sequence.row_end else 0)

    @property
    def largest(self) -> tuple[int, int]:
        """(height, width) in pixels of a picture with the most tiles, which it fills."""
        return self.tiling.largest(self.tile)

    def place(self, height: int, width: int) -> Placement:
        """Where a picture of this size in pixels lands on its tiles. Raises ImageError for one without pixels."""
        return self.tiling.place(height, width, self.tile)

    def limited(self, tiles: int | None) -> PictureSpec:
        """The same with at most `tiles` tiles beside the overview; 0: one view of the whole picture; None: as it is."""
        if tiles is None:
            return self
        return msgspec.structs.replace(self, tiling=self.tiling.limited(tiles, self.tile))
