"""Tables of Qwen-VL's towers for one grid: the order of patches, the order of windows, positions from a table of another side.

Grids are (rows, columns), of patches or of cells; a cell is merge x merge patches and becomes one visual token.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def block_order(rows: int, columns: int, merge: int) -> list[tuple[int, int]]:
    """(row, column) of the patches as the tower takes them: cell by cell, and inside a cell row by row."""
    if rows % merge or columns % merge:
        raise ValueError(f"{rows} x {columns} patches are no whole cells of {merge} x {merge}")
    places = []
    for cell_row in range(rows // merge):
        for cell_column in range(columns // merge):
            for row in range(merge):
                for column in range(merge):
                    places.append((cell_row * merge + row, cell_column * merge + column))
    return places


def window_order(rows: int, columns: int, side: int) -> tuple[list[int], list[int]]:
    """Cells of a grid in the order of windows of side x side cells, and how many cells each window has.

    Windows go row by row, and so do the cells inside one; windows at the right and lower border are smaller where the grid
    is no multiple of them.
    """
    order: list[int] = []
    sizes: list[int] = []
    for top in range(0, rows, side):
        for left in range(0, columns, side):
            window = []
            for row in range(top, min(top + side, rows)):
                for column in range(left, min(left + side, columns)):
                    window.append(row * columns + column)
            order += window
            sizes.append(len(window))
    return order, sizes


def window_side(window_px: int, merge: int, patch_px: int) -> int:
    """Cells along a side of a window: what is left of it over whole cells does not count."""
    return window_px // merge // patch_px


def resampled(table: NDArray[np.floating], rows: int, columns: int) -> NDArray[np.float64]:
    """Positions [rows, columns, C] from a table [side * side, C]: linear between its entries, corner on corner."""
    side = int(len(table) ** 0.5)
    square = np.asarray(table[: side * side], dtype=np.float64).reshape(side, side, -1)
    out = np.empty((rows, columns, square.shape[2]))
    for row in range(rows):
        for column in range(columns):
            y, x = _source(row, rows, side), _source(column, columns, side)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, side - 1), min(left + 1, side - 1)
            down, across = y - top, x - left
            upper = (1 - across) * square[top, left] + across * square[top, right]
            lower = (1 - across) * square[bottom, left] + across * square[bottom, right]
            out[row, column] = (1 - down) * upper + down * lower
    return out


def _source(index: int, length: int, side: int) -> float:
    """Where the patch lies in the table: the first on its first entry, the last on its last; a lone one on the first."""
    return index * (side - 1) / (length - 1) if length > 1 else 0.0


def in_block_order(raster: NDArray[np.float64], merge: int) -> NDArray[np.float64]:
    """Values [rows, columns, C] of patches as [rows * columns, C] in the order in which the tower takes them."""
    rows, columns = raster.shape[:2]
    return np.stack([raster[row, column] for row, column in block_order(rows, columns, merge)])
