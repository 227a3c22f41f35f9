"""Tilings and sequences of every family in small, and noise to cut into tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from edgeprune_runtime.pictures.spec import PictureSpec, SequenceSpec
from edgeprune_runtime.pictures.tiling import Anyres, NearestRatio, Single, Split, TileSpec, TilingSpec

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

MOSAIC = SequenceSpec(order="mosaic", unpad=True, row_end="newline")
WRAPPED = SequenceSpec(overview="last", before="<img>", after="</img>")
NAMED = SequenceSpec(
    overview="last",
    tile="<around><row_{row}_col_{col}>",
    row="\n",
    whole="\n<around><global>",
    alone="<around><global>",
    after="<around>",
)
PLAIN = SequenceSpec()


def tile_spec(px: int = 28, patches: int | None = None, **more: Any) -> TileSpec:
    """A tile of 14-pixel patches unless `patches` says how many there are."""
    return TileSpec(px, patches or px // 14, **{"mean": CLIP_MEAN, "std": CLIP_STD} | more)


def canvases(px: int, *grids: tuple[int, int]) -> Anyres:
    """Anyres with canvases of these rows and columns."""
    return Anyres(tuple((rows * px, cols * px) for rows, cols in grids))


def pictures_of(px: int = 28, patches: int | None = None, **more: Any) -> dict[str, PictureSpec]:
    """Every tiling with the sequence of a family that has it, by name."""
    tile = tile_spec(px, patches, **more)
    grids = ((1, 2), (2, 1), (2, 2), (1, 3), (3, 1), (2, 3))
    pairs: dict[str, tuple[TilingSpec, SequenceSpec]] = {
        "llava": (Single(resize_shortest=px), PLAIN),
        "llava_next": (canvases(px, *grids), MOSAIC),
        "internvl": (NearestRatio(1, 6), WRAPPED),
        "internvl_2_4": (NearestRatio(2, 4), WRAPPED),
        "smolvlm": (Split(3 * px), NAMED),
        "smolvlm_odd": (Split(3 * px - px // 3), NAMED),
        "smolvlm_whole": (Split(3 * px, 0), NAMED),
    }
    return {name: PictureSpec(tile, tiling, sequence) for name, (tiling, sequence) in pairs.items()}


def noise(height: int, width: int) -> Image.Image:
    """[height, width] RGB, the same for the same size."""
    rng = np.random.default_rng(height * 10_007 + width)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
