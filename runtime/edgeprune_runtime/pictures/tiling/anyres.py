"""From a picture to the tiles a vision tower reads: grid choice, resize, padding, normalisation.

LLaVA-NeXT (anyres): the picture squashed to one tile, the thumbnail, then the picture fitted onto the best pinpoint and
cut into tiles. LLaVA-1.5: one tile. Every step follows the checkpoint's own processor (transformers 5.23, its Pillow and
NumPy one) to the last bit of the resize, because a tower is sensitive to what it was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgeprune_runtime.errors import ImageError
from edgeprune_runtime.spec import Preprocess

# Most pixels of a LLaVA-1.5 picture between its resize and its centre crop, which a hostile 1 x 65535 picture would turn
# into gigabytes; at 336 pixels per tile this allows 297 : 1.
_RESIZED_PIXELS = 1 << 25

# Longest side of a picture that is padded to a square: the square is held as a whole.
_LONGEST_PADDED = 10_000


@dataclass(frozen=True)
class Placement:
    """Where the resized picture lies on a canvas of `rows` x `cols` tiles. All lengths in pixels of that canvas.

    `top` and `left` are negative and `height` or `width` exceed the canvas where a centre crop cuts the picture.
    """

    rows: int
    cols: int
    top: int
    left: int
    height: int
    width: int


def best_grid(height: int, width: int, preprocess: Preprocess) -> tuple[int, int]:
    """Rows and columns of tiles for a picture of this size in pixels; (0, 0) for LLaVA-1.5, which has no tiles.

    Wins: the pinpoint that keeps most picture pixels (never more than there are), then the one that wastes least, then
    the first. Raises ImageError for an empty picture.
    """
    _require_pixels(height, width)
    if not preprocess.anyres:
        return 0, 0
    best = max(preprocess.pinpoints, key=lambda pinpoint: _used_and_wasted(height, width, pinpoint))
    return best[0] // preprocess.tile_px, best[1] // preprocess.tile_px


def placement_from_size(height: int, width: int, preprocess: Preprocess) -> Placement:
    """Where a picture of this size (pixels) lands on its tiles; for LLaVA-1.5 on its only tile.

    For a picture padded to a square the lengths are rounded to whole pixels of the tile.
    """
    rows, cols = best_grid(height, width, preprocess)
    px = preprocess.tile_px
    if preprocess.anyres:
        new_height, new_width = _fitted_size(height, width, (rows * px, cols * px))
        return Placement(rows, cols, (rows * px - new_height) // 2, (cols * px - new_width) // 2, new_height, new_width)
    shown = _shown_size(height, width, preprocess)
    full_height, full_width = _single_size(*shown, preprocess)
    new_height = max(1, round(full_height * height / shown[0]))
    new_width = max(1, round(full_width * width / shown[1]))
    return Placement(1, 1, (px - new_height) // 2, (px - new_width) // 2, new_height, new_width)


def tile_crops(image: Image.Image, preprocess: Preprocess) -> Iterator[NDArray[np.uint8]]:
    """Yield the tiles of an RGB picture one by one, each uint8 [P, P, 3]: thumbnail first, then row by row.

    For a tower that runs tile by tile: normalise each into the graph's own input with `normalise_into`.
    """
    px, resample = preprocess.tile_px, Image.Resampling(preprocess.resample)
    if not preprocess.anyres:
        yield np.asarray(_single_tile(image, preprocess))
        return
    place = placement_from_size(image.height, image.width, preprocess)
    yield np.asarray(image.resize((px, px), resample))
    canvas = Image.new("RGB", (place.cols * px, place.rows * px))
    canvas.paste(image.resize((place.width, place.height), resample), (place.left, place.top))
    pixels = np.asarray(canvas)
    for row in range(place.rows):
        for col in range(place.cols):
            yield pixels[row * px : (row + 1) * px, col * px : (col + 1) * px]


def normalise_into(crop: NDArray[np.uint8], preprocess: Preprocess, out: NDArray[np.float32]) -> None:
    """Write (crop * rescale - mean) / std, channels first, into `out`. crop [P, P, 3], out [3, P, P]."""
    for channel, (mean, std) in enumerate(zip(preprocess.mean, preprocess.std, strict=True)):
        plane = out[channel]
        np.multiply(crop[..., channel], np.float32(preprocess.rescale / std), out=plane)
        plane -= np.float32(mean / std)


def tiles_from_image(image: Image.Image, preprocess: Preprocess) -> NDArray[np.float32]:
    """All tiles of an RGB picture, float32 [T, 3, P, P] and contiguous: thumbnail first, then row by row.

    T is what this picture needs, not the model's maximum. Raises ImageError for an empty picture.
    """
    rows, cols = best_grid(image.height, image.width, preprocess)
    px = preprocess.tile_px
    tiles = np.empty((1 + rows * cols, 3, px, px), dtype=np.float32)
    for out, crop in zip(tiles, tile_crops(image, preprocess), strict=True):
        normalise_into(crop, preprocess, out)
    return tiles


def _require_pixels(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise ImageError(f"the picture is {width}x{height} pixels; expected at least 1x1; give a picture with pixels")


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


def _shown_size(height: int, width: int, preprocess: Preprocess) -> tuple[int, int]:
    """Size of a LLaVA-1.5 picture before the resize, with its padding."""
    _require_pixels(height, width)
    if not preprocess.pad_to_square:
        return height, width
    side = max(height, width)
    if side > _LONGEST_PADDED:
        raise ImageError(
            f"the picture is {width}x{height} pixels; this model pads it to a square and takes sides of at most "
            f"{_LONGEST_PADDED}; scale it down first"
        )
    return side, side


def _single_size(height: int, width: int, preprocess: Preprocess) -> tuple[int, int]:
    """Size of the whole LLaVA-1.5 picture after the resize and before the centre crop."""
    if preprocess.resize_exact is not None:
        return preprocess.resize_exact
    if preprocess.resize_shortest is None:
        return height, width
    shortest = preprocess.resize_shortest
    longest = int(shortest * max(height, width) / min(height, width))
    if longest * shortest > _RESIZED_PIXELS:
        raise ImageError(
            f"the picture is {width}x{height} pixels; this model takes at most {_RESIZED_PIXELS // shortest**2} : 1 "
            "between its sides; cut out a part of it"
        )
    return (longest, shortest) if width <= height else (shortest, longest)


def _single_tile(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    """Pad to a square, resize, crop the centre; RGB, P x P. Where the resized picture is smaller than P, black remains.

    One call resizes both axes: which one Pillow takes first, and so how it rounds, depends on its version and the size.
    """
    height, width = _shown_size(image.height, image.width, preprocess)
    size = _single_size(height, width, preprocess)
    if (height, width) != (image.height, image.width):
        square = Image.new("RGB", (width, height), tuple(int(mean * 255) for mean in preprocess.mean))
        square.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
        image = square
    resized = image.resize((size[1], size[0]), Image.Resampling(preprocess.resample))
    # Pasting at a negative offset is the crop: Image.crop would consult Pillow's process-wide pixel limit.
    px = preprocess.tile_px
    tile = Image.new("RGB", (px, px))
    tile.paste(resized, (-((size[1] - px) // 2), -((size[0] - px) // 2)))
    return tile
