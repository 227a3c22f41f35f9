"""The picture squashed to the size, of a few that the tower has graphs for, whose proportions are nearest (for Qwen-VL's free sizes).

The models themselves take any multiple of a unit; static graphs need a set that is known at export. Resizing changes the proportions
of a picture a little, as the models' own rounding does: `distortion` says by how much.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgeprune_runtime.frozen import Spec
from edgeprune_runtime.pictures.tiling.base import Grid, Placement, TileSpec, require_pixels, squashed

#: Width / height of pictures as cameras, phones and screens make them.
COMMON_RATIOS = (1.0, 4 / 3, 3 / 4, 16 / 9, 9 / 16)


class Grids(Spec, frozen=True, tag="grids", tag_field="rule"):
    """sizes: (height, width) in pixels of each grid that a picture can get."""

    sizes: tuple[tuple[int, int], ...]

    @property
    def overview(self) -> bool:
        return False

    def place(self, height: int, width: int, tile: TileSpec) -> Placement:
        """The grid that stretches the picture least; of those that stretch alike a larger one, while the picture has more than half of its
        pixels, as InternVL decides. In fractions: no rounding can turn a tie."""
        require_pixels(height, width)
        best: tuple[int, int] = (0, 0)
        least: Fraction | None = None
        for size in sorted(self.sizes, key=lambda size: (size[0] * size[1], size[1], size[0])):
            ratio = Fraction(size[0] * width, size[1] * height)
            stretch = max(ratio, 1 / ratio)
            if least is None or stretch < least or (stretch == least and 2 * height * width > size[0] * size[1]):
                best, least = size, stretch
        return Placement((height, width), 1, 1, 0, 0, *best, view=best)

    def crops(self, image: Image.Image, place: Placement, tile: TileSpec) -> Iterator[NDArray[np.uint8]]:
        yield np.asarray(squashed(image, place.height, place.width, tile.resample))

    def grids(self, tile: TileSpec) -> tuple[Grid, ...]:
        return tuple(Grid(1, 1, False, size) for size in self.sizes)

    def largest(self, tile: TileSpec) -> tuple[int, int]:
        return max(self.sizes, key=lambda size: size[0] * size[1])

    def limited(self, most: int, tile: TileSpec) -> Grids:
        """There is one view of every picture, whatever the limit."""
        return self

    def having(self, sizes: Sequence[tuple[int, int]]) -> Grids:
        """The same with other sizes."""
        return msgspec.structs.replace(self, sizes=tuple(dict.fromkeys(sizes)))


def distortion(size: tuple[int, int], grid: tuple[int, int]) -> float:
    """By which factor the proportions of a picture of `size` (height, width) change on a grid, at least 1."""
    stretched = grid[0] * size[1] / (grid[1] * size[0])
    return max(stretched, 1 / stretched)


def sizes_for(tokens: int, unit_px: int, step_px: int) -> tuple[tuple[int, int], ...]:
    """Grids of about `tokens` visual tokens, and never more, for the common proportions: (height, width) in pixels, the square first.

    unit_px  side of the pixels that one visual token shows
    step_px  what both sides are multiples of
    """
    step = step_px // unit_px
    most = tokens // step**2
    found = []
    for ratio in COMMON_RATIOS:
        fitting = [(rows, min(most // rows, round(rows * ratio) + 1)) for rows in range(1, most + 1)]
        options = [(rows, cols) for rows, widest in fitting for cols in range(1, widest + 1)]
        # Proportions count twice: a token less blurs a little, a wrong shape bends everything.
        best = min(options, key=lambda o: 2 * abs(math.log(o[1] / o[0] / ratio)) + math.log(most / (o[0] * o[1])))
        found.append((best[0] * step_px, best[1] * step_px))
    return tuple(dict.fromkeys(found))
