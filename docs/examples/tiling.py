"""A tiling of your own: tall pages as one column of tiles, each as wide as the page.

Beside this file it takes the name in the union `TilingSpec` (runtime/edgeprune_runtime/pictures/tiling/__init__.py), so that manifests can
hold it, and a family whose `picture` makes one. Everything else asks the placement: the tower, methods, packing and drawings.
"""

from __future__ import annotations

import msgspec

from edgeprune_runtime.frozen import Spec
from edgeprune_runtime.pictures.tiling.base import Grid, Placement, cut, require_pixels, squashed


class Column(Spec, frozen=True, tag="column", tag_field="rule"):
    """At most `most` tiles; the page is squashed so that its height is a whole number of them. There is no overview."""

    most: int

    @property
    def overview(self):
        return False

    def place(self, height, width, tile):
        require_pixels(height, width)
        rows = min(max(round(height / width), 1), self.most)
        return Placement((height, width), rows, 1, 0, 0, rows * tile.px, tile.px)

    def crops(self, image, place, tile):
        canvas = squashed(image, place.height, place.width, tile.resample)
        yield from cut(canvas, place.rows, place.cols, tile.px)

    def grids(self, tile):
        return tuple(Grid(rows, 1, False) for rows in range(1, self.most + 1))

    def largest(self, tile):
        return self.most * tile.px, tile.px

    def limited(self, most, tile):
        return msgspec.structs.replace(self, most=max(1, min(self.most, most)))
