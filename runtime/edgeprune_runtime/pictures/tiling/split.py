"""The picture enlarged or shrunk to a longest edge, squashed up to whole tiles, and its overview last (SmolVLM's rule).

As transformers 5.23 has it: resized twice, the second time from the first one's pixels, and the overview from the second one's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgeprune_runtime.frozen import Amount, Extent, Spec
from edgeprune_runtime.pictures.tiling.base import Grid, Placement, TileSpec, cut, require_pixels, squashed

_LONGEST_PX = 4096  # whatever the longest edge is set to


class Split(Spec, frozen=True, tag="split", tag_field="rule"):
    """longest_px: the longest edge of the resized picture.

    most  tiles beside the overview; a picture of more is resized to a shorter edge, a whole number of tiles. 0: one squashed view
    """

    longest_px: Extent
    most: Amount | None = None

    @property
    def overview(self) -> bool:
        return True

    def edge(self, height: int, width: int, tile: TileSpec) -> int:
        """The longest edge that this picture is resized to."""
        for edge in self._edges(tile):
            rows, cols = _canvas(height, width, edge, tile.px)
            if self.most is None or rows * cols <= max(self.most, 1):
                break
        return edge

    def place(self, height: int, width: int, tile: TileSpec) -> Placement:
        """A picture of one tile has no other overview than that tile."""
        require_pixels(height, width)
        if self.most == 0:
            return Placement((height, width), 1, 1, 0, 0, tile.px, tile.px)
        rows, cols = _canvas(height, width, self.edge(height, width, tile), tile.px)
        return Placement((height, width), rows, cols, 0, 0, rows * tile.px, cols * tile.px, overview=rows * cols > 1)

    def crops(self, image: Image.Image, place: Placement, tile: TileSpec) -> Iterator[NDArray[np.uint8]]:
        edge = self.longest_px if self.most == 0 else self.edge(image.height, image.width, tile)
        once = squashed(image, *_scaled(image.height, image.width, edge), tile.resample)
        twice = squashed(once, place.height, place.width, tile.resample)
        if place.overview:
            yield np.asarray(squashed(twice, tile.px, tile.px, tile.resample))
        yield from cut(twice, place.rows, place.cols, tile.px)

    def grids(self, tile: TileSpec) -> tuple[Grid, ...]:
        """Smaller limits of a request may reach every shorter edge."""
        most = math.inf if self.most is None else max(self.most, 1)
        sides = range(1, self.edge_tiles(tile) + 1)
        return tuple(Grid(rows, cols, rows * cols > 1) for rows in sides for cols in sides if rows * cols <= most)

    def largest(self, tile: TileSpec) -> tuple[int, int]:
        grid = max(self.grids(tile), key=lambda grid: (grid.tiles, grid.cols))
        return grid.rows * tile.px, grid.cols * tile.px

    def limited(self, most: int, tile: TileSpec) -> Split:
        return msgspec.structs.replace(self, most=most if self.most is None else min(self.most, most))

    def edge_tiles(self, tile: TileSpec) -> int:
        """Most tiles along one side; the other side of a picture may be a pixel longer than an odd edge."""
        return math.ceil(min(self.longest_px + self.longest_px % 2, _LONGEST_PX) / tile.px)

    def _edges(self, tile: TileSpec) -> list[int]:
        """The longest edge, then every smaller whole number of tiles, or a pixel less where that is odd."""
        return [self.longest_px, *(side * tile.px // 2 * 2 for side in range(self.edge_tiles(tile) - 1, 0, -1))]


def _scaled(height: int, width: int, edge: int) -> tuple[int, int]:
    """Size with this longest edge, the other one even and at least 1; the order of the float operations decides: keep it."""
    aspect = width / height
    return _below(*((_even(int(edge / aspect)), edge) if width >= height else (edge, _even(int(edge * aspect)))))


def _even(length: int) -> int:
    return max(length + length % 2, 1)


def _below(height: int, width: int) -> tuple[int, int]:
    aspect = width / height
    if width >= height and width > _LONGEST_PX:
        height, width = int(_LONGEST_PX / aspect), _LONGEST_PX
    elif height > width and height > _LONGEST_PX:
        height, width = _LONGEST_PX, int(_LONGEST_PX * aspect)
    return max(height, 1), max(width, 1)


def _canvas(height: int, width: int, edge: int, px: int) -> tuple[int, int]:
    """Rows and columns of tiles for a picture resized to `edge`; one at least, where transformers fails at a picture so thin."""
    height, width = _scaled(height, width, edge)
    aspect = width / height
    if width >= height:
        cols = math.ceil(width / px)
        return max(math.ceil(int(cols * px / aspect) / px), 1), cols
    rows = math.ceil(height / px)
    return rows, max(math.ceil(int(rows * px * aspect) / px), 1)
