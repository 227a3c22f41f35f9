"""From a picture to the numbers a tower reads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgeprune_runtime.pictures.spec import PictureSpec
from edgeprune_runtime.pictures.tiling import Placement, TileSpec


def normalise_into(crop: NDArray[np.uint8], tile: TileSpec, out: NDArray[np.float32]) -> None:
    """Write (crop * rescale - mean) / std, channels first, into `out`. crop [H, W, 3], out [3, H, W].

    In the order and the types of transformers' own processors, so that the numbers are theirs to the last bit: the product in float64,
    what follows in float32.
    """
    for channel, (mean, std) in enumerate(zip(tile.mean, tile.std, strict=True)):
        plane = out[channel]
        np.multiply(crop[..., channel], np.float64(tile.rescale), out=plane, casting="same_kind")
        plane -= np.float32(mean)
        plane /= np.float32(std)


def tiles_from_image(image: Image.Image, spec: PictureSpec, place: Placement | None = None) -> NDArray[np.float32]:
    """All tiles of an RGB picture, float32 [T, 3, P, P] and contiguous: the overview first, then row by row; of a tile that has a view,
    that alone: [T, 3, height, width].

    place: what `spec.place` said of this picture's size. T is what this picture needs, not the model's maximum.
    Raises ImageError for an empty picture.
    """
    place = place or spec.place(image.height, image.width)
    height, width = place.view or (spec.tile.px, spec.tile.px)
    tiles = np.empty((place.tiles, 3, height, width), dtype=np.float32)
    for out, crop in zip(tiles, spec.tiling.crops(image, place, spec.tile), strict=True):
        normalise_into(crop, spec.tile, out)
    return tiles
