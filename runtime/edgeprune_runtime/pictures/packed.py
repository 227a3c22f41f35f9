"""Which visual token sits where: the packing of tiles into one sequence, as integers.

LLaVA-NeXT puts the thumbnail's tokens first, then the mosaic of all tiles without its padding, row by row, and one newline
after each mosaic row (`pack_image_features` of transformers 5.23, whose rounding is repeated here exactly). Very thin
pictures may lose all rows or all columns of the mosaic. LLaVA-1.5 has the tokens of its one tile and no newline.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune_runtime.errors import RequestError
from edgeprune_runtime.pictures.tiling.anyres import Placement, best_grid, placement_from_size
from edgeprune_runtime.spec import Preprocess


@dataclass(frozen=True, eq=False)
class Layout:
    """The token positions of one picture. N tokens per tile; the arrays are read-only.

    grid           tiles (rows, cols) of the mosaic; (0, 0) for LLaVA-1.5
    tiles          T of this picture, thumbnail included
    slot           int64 [tiles_max, N]: position in the packed sequence, -1 for padding and absent tiles
    region         float32 [tiles_max, N]: 1.0 where the centre of thumbnail patch n lies in tile t; row 0 is 0
    mosaic         tokens (rows, columns) of the mosaic without padding; either may be 0; (0, 0) for LLaVA-1.5
    newline_slots  int64 [rows of the mosaic]: positions of the newlines
    length         of the packed sequence, newlines included
    """

    grid: tuple[int, int]
    tiles: int
    slot: NDArray[np.int64]
    region: NDArray[np.float32]
    mosaic: tuple[int, int]
    newline_slots: NDArray[np.int64]
    length: int

    def triples(self, kept: Iterable[int]) -> tuple[tuple[int, int, int], ...]:
        """(tile, patch row, patch column) of flat indices t*N+n; -1 entries (nothing was left to keep) are skipped,
        and so are tokens that are no patch (DeiT's distillation token).

        Raises RequestError for an index outside the model's candidates.
        """
        tokens = self.slot.shape[1]
        side = math.isqrt(tokens)
        extra = tokens - side * side
        found: list[tuple[int, int, int]] = []
        for index in kept:
            if not -1 <= index < self.slot.size:
                raise RequestError(
                    f"kept index {index} does not exist; expected 0 to {self.slot.size - 1} or -1; "
                    "use the indices of a run with the same model"
                )
            tile, patch = divmod(int(index), tokens)
            patch -= extra
            if index >= 0 and patch >= 0:
                found.append((tile, patch // side, patch % side))
        return tuple(found)


def layout_from_size(height: int, width: int, preprocess: Preprocess) -> Layout:
    """Layout of an upright picture of this size in pixels. Raises ImageError for an empty picture."""
    tokens = preprocess.tokens_per_tile
    slot = np.full((preprocess.tiles_max, tokens), -1, dtype=np.int64)
    region = np.zeros((preprocess.tiles_max, tokens), dtype=np.float32)
    slot[0] = np.arange(tokens)
    rows, cols = best_grid(height, width, preprocess)
    mosaic_rows, mosaic_cols = 0, 0
    if preprocess.anyres:
        side = preprocess.patches
        row_cut, col_cut = _padding_tokens(height, width, rows * side, cols * side)
        positions = np.full((rows * side, cols * side), -1, dtype=np.int64)
        inner = positions[row_cut : rows * side - row_cut, col_cut : cols * side - col_cut]
        mosaic_rows, mosaic_cols = inner.shape
        # One column more than the mosaic: the newline that closes each row.
        inner[...] = tokens + np.arange(mosaic_rows)[:, None] * (mosaic_cols + 1) + np.arange(mosaic_cols)
        slot[1 : 1 + rows * cols] = _tiles_from_mosaic(positions, rows, cols)
        region[1 : 1 + rows * cols] = _regions(placement_from_size(height, width, preprocess), preprocess)
    newlines = tokens + np.arange(1, mosaic_rows + 1, dtype=np.int64) * (mosaic_cols + 1) - 1
    for array in (slot, region, newlines):
        array.flags.writeable = False
    return Layout(
        grid=(rows, cols),
        tiles=1 + rows * cols,
        slot=slot,
        region=region,
        mosaic=(mosaic_rows, mosaic_cols),
        newline_slots=newlines,
        length=tokens + mosaic_rows * (mosaic_cols + 1),
    )


def _padding_tokens(height: int, width: int, rows: int, cols: int) -> tuple[int, int]:
    """Token rows cut at the top and at the bottom, token columns cut at the left and at the right.

    The order of the float operations and the seven decimals decide borderline sizes: keep them.
    """
    if width / height > cols / rows:
        return (rows - int(round(height * (cols / width), 7))) // 2, 0
    return 0, (cols - int(round(width * (rows / height), 7))) // 2


def _tiles_from_mosaic(mosaic: NDArray[np.int64], rows: int, cols: int) -> NDArray[np.int64]:
    """[rows*side, cols*side] in raster order -> [rows*cols, side*side], each tile in raster order."""
    side = mosaic.shape[0] // rows
    tiles: NDArray[np.int64] = (
        mosaic.reshape(rows, side, cols, side).transpose(0, 2, 1, 3).reshape(rows * cols, side * side)
    )
    return tiles


def _regions(place: Placement, preprocess: Preprocess) -> NDArray[np.float32]:
    """[rows*cols, N]: which thumbnail patch has its centre in which tile. In integers, so no centre can slip between."""
    tile_row = _tile_of_centres(place.top, place.height, preprocess)
    tile_col = _tile_of_centres(place.left, place.width, preprocess)
    in_row = tile_row == np.arange(place.rows)[:, None]  # [rows, side]
    in_col = tile_col == np.arange(place.cols)[:, None]  # [cols, side]
    inside = in_row[:, None, :, None] & in_col[None, :, None, :]  # [rows, cols, side, side]
    regions: NDArray[np.float32] = inside.reshape(place.rows * place.cols, -1).astype(np.float32)
    return regions


def _tile_of_centres(start: int, extent: int, preprocess: Preprocess) -> NDArray[np.int64]:
    """[side]: tile (row or column) under the centre of each thumbnail patch, start + (i + 1/2) * patch_px * extent / tile_px."""
    doubled = 2 * np.arange(preprocess.patches, dtype=np.int64) + 1
    tile: NDArray[np.int64] = start * 2 * preprocess.tile_px + doubled * preprocess.patch_px * extent
    tile //= 2 * preprocess.tile_px**2
    return tile
