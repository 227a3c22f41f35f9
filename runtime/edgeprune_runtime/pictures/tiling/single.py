"""One tile: the picture resized, perhaps padded to a square first, and its centre cropped."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgeprune_runtime.errors import ImageError
from edgeprune_runtime.frozen import Extent, Spec
from edgeprune_runtime.pictures.tiling.base import Grid, Placement, TileSpec, require_pixels

# Most pixels of a picture between its resize and its centre crop, which a hostile 1 x 65535 picture would turn into
# gigabytes; at 336 pixels per tile this allows 297 : 1.
_RESIZED_PIXELS = 1 << 25

# Longest side of a picture that is padded to a square: the square is held as a whole.
_LONGEST_PADDED = 10_000


class Single(Spec, frozen=True, tag="single", tag_field="rule"):
    """One tile per picture, which is its own overview.

    resize_shortest  the shortest edge becomes this, then the centre is cropped
    resize_exact     (height, width) that the picture is squashed to instead, then the same crop
    pad_to_square    with the mean colour, before the resize
    """

    resize_shortest: Extent | None = None
    resize_exact: tuple[Extent, Extent] | None = None
    pad_to_square: bool = False

    @property
    def overview(self) -> bool:
        return True

    def place(self, height: int, width: int, tile: TileSpec) -> Placement:
        """For a picture padded to a square the lengths are rounded to whole pixels of the tile."""
        shown = self._shown(height, width)
        full_height, full_width = self._resized(*shown)
        new_height = max(1, round(full_height * height / shown[0]))
        new_width = max(1, round(full_width * width / shown[1]))
        return Placement(
            (height, width), 1, 1, (tile.px - new_height) // 2, (tile.px - new_width) // 2, new_height, new_width
        )

    def crops(self, image: Image.Image, place: Placement, tile: TileSpec) -> Iterator[NDArray[np.uint8]]:
        """Where the resized picture is smaller than the tile, black remains.

        One call resizes both axes: which one Pillow takes first, and so how it rounds, depends on its version and the size.
        """
        height, width = self._shown(image.height, image.width)
        size = self._resized(height, width)
        if (height, width) != (image.height, image.width):
            square = Image.new("RGB", (width, height), tuple(int(mean * 255) for mean in tile.mean))
            square.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
            image = square
        resized = image.resize((size[1], size[0]), Image.Resampling(tile.resample))
        # Pasting at a negative offset is the crop: Image.crop would consult Pillow's process-wide pixel limit.
        view = Image.new("RGB", (tile.px, tile.px))
        view.paste(resized, (-((size[1] - tile.px) // 2), -((size[0] - tile.px) // 2)))
        yield np.asarray(view)

    def grids(self, tile: TileSpec) -> tuple[Grid, ...]:
        return (Grid(1, 1, False),)

    def largest(self, tile: TileSpec) -> tuple[int, int]:
        return tile.px, tile.px

    def limited(self, most: int, tile: TileSpec) -> Single:
        return self

    def _shown(self, height: int, width: int) -> tuple[int, int]:
        """Size before the resize, with the padding."""
        require_pixels(height, width)
        if not self.pad_to_square:
            return height, width
        side = max(height, width)
        if side > _LONGEST_PADDED:
            raise ImageError(
                f"the picture is {width}x{height} pixels; this model pads it to a square and takes sides of at most "
                f"{_LONGEST_PADDED}; scale it down first"
            )
        return side, side

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Size after the resize and before the centre crop."""
        if self.resize_exact is not None:
            return self.resize_exact
        if self.resize_shortest is None:
            return height, width
        shortest = self.resize_shortest
        longest = int(shortest * max(height, width) / min(height, width))
        if longest * shortest > _RESIZED_PIXELS:
            raise ImageError(
                f"the picture is {width}x{height} pixels; this model takes at most {_RESIZED_PIXELS // shortest**2} : 1 "
                "between its sides; cut out a part of it"
            )
        return (longest, shortest) if width <= height else (shortest, longest)
