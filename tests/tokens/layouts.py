"""Where tokens of random pictures lie: real layouts of every kind that a family makes, thin pictures included."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeprune.tokens.readings import Geometry
from edgeprune_runtime.pictures.packed import PackedPicture, pack_picture
from edgeprune_runtime.pictures.spec import PictureSpec, SequenceSpec
from edgeprune_runtime.pictures.tiling import Anyres, NearestRatio, Split, TileSpec, TilingSpec

#: How the tiles of a picture can stand in the prompt: one tile alone; the overview before a mosaic without its padding and with a learned
#: row at every line's end (LLaVA-NeXT); tile after tile, the overview last (InternVL, SmolVLM); and the same without an overview.
KINDS = ("one", "mosaic", "last", "bare")
GRIDS = ((1, 2), (2, 1), (2, 2), (1, 3), (3, 1))
#: (height, width) of thin pictures: unpadding leaves no rows or no columns of tile tokens, or very few.
THIN = ((3, 900), (900, 3), (20, 400), (400, 25), (1, 1))
_MOSAIC = SequenceSpec(order="mosaic", unpad=True, row_end="newline")
_TILES = SequenceSpec(order="tiles", overview="last")


@dataclass(frozen=True, eq=False)
class Layout:
    """Tokens of one picture: slots, regions and places as methods take them, and what the references take in their stead.

    canvas  rows and columns of the unpadded canvas in tokens
    grid    rows and columns of whole tiles where they stand one after another; None for a mosaic
    whole   tile 0 shows the whole picture
    """

    slot: np.ndarray
    region: np.ndarray
    places: np.ndarray
    geometry: Geometry
    canvas: tuple[int, int] = (0, 0)
    grid: tuple[int, int] | None = None
    whole: bool = True


def random_layout(rng: np.random.Generator, patches: int, kind: str, *, absent: bool = True) -> Layout:
    """A picture of this kind with `patches` x `patches` tokens per tile. absent: all tiles of the model, those that this picture has no
    use for included; otherwise any number of these."""
    if kind == "one":
        return _one_tile(rng, patches)
    spec = picture_spec(rng, patches, kind)
    packed = pack_picture(spec.place(*random_size(rng)), spec)
    tiles = spec.tiles_max if absent else int(rng.integers(packed.tiles, spec.tiles_max + 1))
    return _first(packed, spec, tiles)


def picture_spec(rng: np.random.Generator, patches: int, kind: str) -> PictureSpec:
    px = 8 * patches
    tile = TileSpec(px, patches, mean=(0.5,) * 3, std=(0.5,) * 3)
    if kind == "mosaic":
        return PictureSpec(tile, Anyres(tuple((rows * px, cols * px) for rows, cols in GRIDS)), _MOSAIC)
    rules: tuple[TilingSpec, ...] = (
        (NearestRatio(1, 4), Split(2 * px)) if kind == "last" else (NearestRatio(1, 4, thumbnail=False),)
    )
    return PictureSpec(tile, rules[int(rng.integers(len(rules)))], _TILES)


def random_size(rng: np.random.Generator) -> tuple[int, int]:
    if rng.random() < 0.2:
        return THIN[int(rng.integers(len(THIN)))]
    return int(rng.integers(1, 300)), int(rng.integers(1, 300))


def _first(packed: PackedPicture, spec: PictureSpec, tiles: int) -> Layout:
    """Of a packed picture, the first `tiles` tiles; the others are absent."""
    overview, place = spec.tiling.overview, packed.place
    alone = place.tiles == 1 and overview  # the only tile of a picture is its overview
    mosaic = spec.sequence.order == "mosaic"
    return Layout(
        np.array(packed.slot[:tiles]),
        np.array(packed.region[:tiles]),
        np.array(packed.places[:tiles]),
        Geometry(spec.tile.side, spec.tile.extra, overview),
        canvas=packed.canvas if mosaic else (0, 0),
        grid=None if mosaic else ((0, 0) if alone else (place.rows, place.cols)),
        whole=overview,
    )


def _one_tile(rng: np.random.Generator, patches: int) -> Layout:
    """A model without tiles, with a token that is no patch in half of the cases."""
    extra = int(rng.integers(0, 2))
    tokens = patches * patches + extra
    places = np.full((1, tokens, 2), -1, np.int64)
    places[0, extra:] = np.stack(np.divmod(np.arange(patches * patches), patches), axis=1)
    slot, region = np.arange(tokens)[None], np.zeros((1, tokens), np.float32)
    return Layout(slot, region, places, Geometry(patches, extra))
