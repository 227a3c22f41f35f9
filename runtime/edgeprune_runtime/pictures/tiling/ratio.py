"""The picture squashed onto the canvas of tiles whose proportions are nearest, and its overview last (InternVL's rule).

As transformers 5.23 has it (`get_optimal_tiled_canvas`), ties and float operations included.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgeprune_runtime.frozen import Extent, Spec
from edgeprune_runtime.pictures.tiling.base import Grid, Placement, TileSpec, cut, require_pixels, squashed


class NearestRatio(Spec, frozen=True, tag="ratio", tag_field="rule"):
    """Canvases of `least` to `most` tiles; with a `thumbnail`, the overview follows unless there is one tile only."""

    least: Extent
    most: Extent
    thumbnail: bool = True

    @property
    def overview(self) -> bool:
        return self.thumbnail

    def place(self, height: int, width: int, tile: TileSpec) -> Placement:
        """Wins: the nearest width / height; of equally near ones the larger, while the picture has more than half of its pixels."""
        require_pixels(height, width)
        best, nearest = (1, 1), float("inf")
        for cols, rows in self._canvases():
            distance = abs(width / height - cols / rows)
            if distance < nearest or (distance == nearest and width * height > 0.5 * tile.px * tile.px * cols * rows):
                best, nearest = (rows, cols), distance
        rows, cols = best
        return Placement(
            (height, width),
            rows,
            cols,
            0,
            0,
            rows * tile.px,
            cols * tile.px,
            overview=self.thumbnail and best != (1, 1),
        )

    def crops(self, image: Image.Image, place: Placement, tile: TileSpec) -> Iterator[NDArray[np.uint8]]:
        if place.overview:
            yield np.asarray(squashed(image, tile.px, tile.px, tile.resample))
        canvas = squashed(image, place.height, place.width, tile.resample)
        yield from cut(canvas, place.rows, place.cols, tile.px)

    def grids(self, tile: TileSpec) -> tuple[Grid, ...]:
        """Smaller limits of a request may reach every canvas up to `most` tiles."""
        return tuple(
            Grid(rows, cols, self.thumbnail and (rows, cols) != (1, 1))
            for cols, rows in self.limited(self.most, tile, 1)._canvases()
        )

    def largest(self, tile: TileSpec) -> tuple[int, int]:
        cols, rows = self._canvases()[-1]
        return rows * tile.px, cols * tile.px

    def limited(self, most: int, tile: TileSpec, least: int | None = None) -> NearestRatio:
        most = max(1, min(self.most, most))
        return msgspec.structs.replace(self, least=min(self.least if least is None else least, most), most=most)

    def _canvases(self) -> list[tuple[int, int]]:
        """(columns, rows) by area; of one area, fewer columns first."""
        sides = range(1, self.most + 1)
        fitting = [(cols, rows) for cols in sides for rows in sides if self.least <= cols * rows <= self.most]
        return sorted(fitting, key=lambda canvas: canvas[0] * canvas[1])
