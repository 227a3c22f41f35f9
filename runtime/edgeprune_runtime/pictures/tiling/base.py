"""What every tiling rule speaks of: one tile as the tower sees it, and where a picture lies on its tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgeprune_runtime.errors import ImageError
from edgeprune_runtime.frozen import Amount, Extent, Spec


class TileSpec(Spec, frozen=True):
    """A square view of `px` pixels. The connector merges `merge` x `merge` patches into one visual token, a unit.

    extra  visual tokens before the patches that are no patch (DeiT's distillation token); none where patches are merged
    """

    px: Extent
    patches: Extent  # per side; what `px` has beyond the last whole patch is not looked at
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    merge: Extent = 1
    extra: Amount = 0
    rescale: float = 1 / 255
    resample: int = 3  # Pillow's number: 3 = bicubic

    @property
    def patch_px(self) -> int:
        """Side of a patch: a tile has fewer pixels beyond the last whole patch than patches on a side."""
        return self.px // self.patches

    @property
    def unit_px(self) -> int:
        """Side of the pixels that one visual token shows."""
        return self.patch_px * self.merge

    @property
    def side(self) -> int:
        """Units along one side of a tile."""
        return self.patches // self.merge

    @property
    def units(self) -> int:
        """N, visual tokens per tile."""
        return self.extra + self.side**2

    def units_of(self, view: tuple[int, int] | None) -> NDArray[np.int64]:
        """Numbers of the visual tokens of a tile of which only `view` (height, width in pixels) is looked at; None: all N."""
        if view is None:
            return np.arange(self.units, dtype=np.int64)
        rows, cols = (length // self.unit_px for length in view)
        numbers: NDArray[np.int64] = np.arange(rows)[:, None] * self.side + np.arange(cols)
        return numbers.reshape(-1)


@dataclass(frozen=True)
class Placement:
    """Where a picture lies on a canvas of `rows` x `cols` tiles; a picture of one tile has no other. Lengths are pixels of the canvas.

    size       (height, width) of the picture itself
    top, left  negative, and height or width exceed the canvas, where a centre crop cuts the picture
    overview   a further tile, number 0, shows the whole picture squashed; the canvas' tiles follow row by row
    view       (height, width) in pixels of the part of its one tile, from the upper left corner, that is looked at; None: all of it
    """

    size: tuple[int, int]
    rows: int
    cols: int
    top: int
    left: int
    height: int
    width: int
    overview: bool = False
    view: tuple[int, int] | None = None

    @property
    def first(self) -> int:
        """Number of the canvas' first tile."""
        return int(self.overview)

    @property
    def tiles(self) -> int:
        """T of this picture, overview included."""
        return self.first + self.rows * self.cols


@dataclass(frozen=True)
class Grid:
    """A canvas that some picture can have."""

    rows: int
    cols: int
    overview: bool
    view: tuple[int, int] | None = None  # as in Placement

    @property
    def tiles(self) -> int:
        return int(self.overview) + self.rows * self.cols


Rule = TypeVar("Rule", bound="TilingRule")


class TilingRule(Protocol):
    """How pictures become tiles: data of the manifest, and pure functions of it."""

    @property
    def overview(self) -> bool:
        """Whether tile 0 of every picture shows the whole of it."""

    def place(self, height: int, width: int, tile: TileSpec) -> Placement:
        """Where a picture of this size in pixels lands. Raises ImageError for one without pixels."""

    def crops(self, image: Image.Image, place: Placement, tile: TileSpec) -> Iterator[NDArray[np.uint8]]:
        """The tiles of an RGB picture one by one, each uint8 [P, P, 3]: the overview first, then row by row."""

    def grids(self, tile: TileSpec) -> tuple[Grid, ...]:
        """Every canvas that a picture can have."""

    def largest(self, tile: TileSpec) -> tuple[int, int]:
        """(height, width) in pixels of a picture with the most tiles, which it fills."""

    def limited(self: Rule, most: int, tile: TileSpec) -> Rule:
        """The same rule with at most `most` tiles beside the overview; 0: one view of the whole picture."""


def require_pixels(height: int, width: int) -> None:
    """Raise ImageError for an empty picture."""
    if height < 1 or width < 1:
        raise ImageError(f"the picture is {width}x{height} pixels; expected at least 1x1; give a picture with pixels")


def squashed(image: Image.Image, height: int, width: int, resample: int) -> Image.Image:
    """The picture at another size, its proportions not kept."""
    return image.resize((width, height), Image.Resampling(resample))


def cut(canvas: Image.Image, rows: int, cols: int, px: int) -> Iterator[NDArray[np.uint8]]:
    """The tiles of a canvas, row by row."""
    pixels = np.asarray(canvas)
    for row in range(rows):
        for col in range(cols):
            yield pixels[row * px : (row + 1) * px, col * px : (col + 1) * px]
