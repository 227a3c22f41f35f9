"""The picture fitted onto the best of several canvases, padded, and cut into tiles; its overview first (LLaVA-NeXT's rule).

Every step follows the checkpoint's own processor (transformers 5.23, its Pillow and NumPy one) to the last bit of the resize,
because a tower is sensitive to what it was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgeprune_runtime.frozen import Extent, Spec
from edgeprune_runtime.pictures.tiling.base import Grid, Placement, TileSpec, cut, require_pixels, squashed


class Anyres(Spec, frozen=True, tag="anyres", tag_field="rule"):
    """pinpoints: canvases (height, width) in pixels, multiples of the tile; none: the overview alone."""

    pinpoints: tuple[tuple[Extent, Extent], ...]

    @property
    def overview(self) -> bool:
        return True

    def place(self, height: int, width: int, tile: TileSpec) -> Placement:
        """Wins: the pinpoint that keeps most picture pixels (never more than there are), then the one that wastes least, then
        the first."""
        require_pixels(height, width)
        if not self.pinpoints:
            return Placement((height, width), 1, 1, 0, 0, tile.px, tile.px)
        best = max(self.pinpoints, key=lambda pinpoint: _used_and_wasted(height, width, pinpoint))
        rows, cols = best[0] // tile.px, best[1] // tile.px
        new_height, new_width = _fitted_size(height, width, best)
        top, left = (best[0] - new_height) // 2, (best[1] - new_width) // 2
        return Placement((height, width), rows, cols, top, left, new_height, new_width, overview=True)

    def crops(self, image: Image.Image, place: Placement, tile: TileSpec) -> Iterator[NDArray[np.uint8]]:
        yield np.asarray(squashed(image, tile.px, tile.px, tile.resample))
        if not place.overview:
            return
        canvas = Image.new("RGB", (place.cols * tile.px, place.rows * tile.px))
        canvas.paste(squashed(image, place.height, place.width, tile.resample), (place.left, place.top))
        yield from cut(canvas, place.rows, place.cols, tile.px)

    def grids(self, tile: TileSpec) -> tuple[Grid, ...]:
        """A request may ask for one view whatever the canvases are."""
        return Grid(1, 1, False), *(Grid(h // tile.px, w // tile.px, True) for h, w in self.pinpoints)

    def largest(self, tile: TileSpec) -> tuple[int, int]:
        return max(self.pinpoints, key=lambda size: size[0] * size[1], default=(tile.px, tile.px))

    def limited(self, most: int, tile: TileSpec) -> Anyres:
        few = tuple((h, w) for h, w in self.pinpoints if (h // tile.px) * (w // tile.px) <= most)
        return msgspec.structs.replace(self, pinpoints=few)


def _used_and_wasted(height: int, width: int, pinpoint: tuple[int, int]) -> tuple[int, int]:
    """Sort key of a pinpoint, larger is better. The order of the float operations decides ties: keep it."""
    scale = min(pinpoint[1] / width, pinpoint[0] / height)
    used = min(int(width * scale) * int(height * scale), width * height)
    return used, used - pinpoint[0] * pinpoint[1]


def _fitted_size(height: int, width: int, target: tuple[int, int]) -> tuple[int, int]:
    """Largest (height, width) of the same aspect ratio inside the target, rounded up."""
    scale_height, scale_width = target[0] / height, target[1] / width
    if scale_width < scale_height:
        return min(math.ceil(height * scale_width), target[0]), target[1]
    return target[0], min(math.ceil(width * scale_height), target[1])
