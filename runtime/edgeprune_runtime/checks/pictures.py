"""Geometry of tiles: whether numbers of a manifest, or of a checkpoint's processor, can be the tiles of a picture at all."""

from __future__ import annotations

import string
from collections.abc import Iterator

from edgeprune_runtime.pictures.spec import PictureSpec, SequenceSpec
from edgeprune_runtime.pictures.tiling import Anyres, Grids, NearestRatio, Single, Split, TileSpec

MOST_TILE_PX = 8192  # side of one tile
MOST_TILES = 1024  # of one picture
MOST_CANVASES = 4096  # that a picture can be fitted onto
MOST_UNITS = 1 << 20  # visual tokens of one picture
LARGEST_SCALE = 1e6  # of means, deviations and factors of pixels; the least is one by it
MOST_TEXT = 1000  # characters of one text between tiles
_RESAMPLE = range(6)  # Pillow's filters
_PLACES = {"row", "col"}


def picture_faults(spec: PictureSpec) -> Iterator[str]:
    """What cannot be, in words; nothing where the geometry holds."""
    yield from _tile_faults(spec.tile)
    yield from _tiling_faults(spec)
    yield from _sequence_faults(spec.sequence)


def _tile_faults(tile: TileSpec) -> Iterator[str]:
    if tile.px > MOST_TILE_PX:
        yield f"tiles of {tile.px} pixels, expected at most {MOST_TILE_PX}"
    if tile.patches > tile.px or tile.patches % tile.merge:
        yield f"{tile.patches} patches along {tile.px} pixels, merged by {tile.merge}, which are no whole number of units"
    if tile.extra > tile.patches or (tile.extra and tile.merge > 1):
        yield f"{tile.extra} visual tokens per tile that are no patch, merged by {tile.merge}"
    numbers = (*tile.mean, *tile.std, tile.rescale)
    if not all(abs(number) <= LARGEST_SCALE for number in numbers) or min(*tile.std, tile.rescale) < 1 / LARGEST_SCALE:
        yield f"pixels scaled by {tile.rescale}, mean {tile.mean} and deviation {tile.std}, which no pixels have"
    if tile.resample not in _RESAMPLE:
        yield f"the resampling filter {tile.resample}, expected 0 to 5"


def _tiling_faults(spec: PictureSpec) -> Iterator[str]:
    rule, px = spec.tiling, spec.tile.px
    if isinstance(rule, Anyres):
        if len(rule.pinpoints) > MOST_CANVASES:
            yield f"{len(rule.pinpoints)} canvases, expected at most {MOST_CANVASES}"
        odd = [size for size in rule.pinpoints if size[0] % px or size[1] % px]
        if odd:
            yield f"a canvas of {odd[0][0]} x {odd[0][1]} pixels, which is no whole number of tiles of {px}"
        few = all(h // px * (w // px) < MOST_TILES for h, w in rule.pinpoints)
    elif isinstance(rule, NearestRatio):
        few = rule.most < MOST_TILES
        if rule.least > rule.most:
            yield f"at least {rule.least} and at most {rule.most} tiles"
    elif isinstance(rule, Split):
        few = rule.edge_tiles(spec.tile) ** 2 < MOST_TILES
    elif isinstance(rule, Grids):
        few = len(rule.sizes) <= MOST_CANVASES
        unit = spec.tile.unit_px
        if not rule.sizes or any(side % unit or not 0 < side <= px for size in rule.sizes for side in size):
            yield f"grids {list(rule.sizes)}, expected at least one, of sides that are multiples of {unit} up to {px} pixels"
            return
    else:
        few = True
    if isinstance(rule, Single) and max(rule.resize_exact or (0,)) > 2 * MOST_TILE_PX:
        yield f"pictures resized to {rule.resize_exact}, expected sides of at most {2 * MOST_TILE_PX}"
    if not few:
        yield f"more than {MOST_TILES} tiles of one picture"
        return  # what follows counts them
    if spec.candidates_max > MOST_UNITS:
        yield f"{spec.candidates_max} visual tokens of one picture, expected at most {MOST_UNITS}"


def _sequence_faults(sequence: SequenceSpec) -> Iterator[str]:
    for name in ("before", "after", "tile", "row", "whole", "alone"):
        text = getattr(sequence, name)
        if len(text) > MOST_TEXT:
            yield f"a text of {len(text)} characters ({name}) between tiles, expected at most {MOST_TEXT}"
    if sequence.text_tokens > MOST_UNITS:
        yield f"{sequence.text_tokens} tokens of texts between tiles, expected at most {MOST_UNITS}"
    try:
        parts = list(string.Formatter().parse(sequence.tile))
    except ValueError:
        parts = [("", None, "broken", None)]
    for _, place, form, conversion in parts:
        if form or conversion or place not in {None, *_PLACES}:
            yield f"the text {sequence.tile!r} before a tile, in which only {{row}} and {{col}} stand for something"
