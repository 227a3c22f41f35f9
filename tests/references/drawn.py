"""Random pictures with the layout of real ones, for properties that hold whatever the values are."""

from __future__ import annotations

import numpy as np

from .picture import Array, Picture

FEATURE_LAYER = 4
LAST_LAYER = 5
HEADS = 2


def layout(
    grid: tuple[int, int], side: int, absent: int = 0, crop: tuple[int, int] = (0, 0), extra: int = 0
) -> tuple[Array, Array, tuple[int, int]]:
    """(slot, region, mosaic) of a thumbnail and rows x columns crops; `crop` rows / columns of padding on each side."""
    if extra and grid != (0, 0):
        raise ValueError("tokens in front of the patches are for pictures of one tile")
    rows, columns = grid
    n = extra + side * side
    tiles = 1 + rows * columns + absent
    slot = np.full((tiles, n), -1, dtype=np.int64)
    region = np.zeros((tiles, n), dtype=np.float32)
    slot[0] = np.arange(n)
    height, width = max(rows * side - 2 * crop[0], 0), max(columns * side - 2 * crop[1], 0)
    for y in range(height):
        for x in range(width):
            yy, xx = y + crop[0], x + crop[1]
            slot[1 + (yy // side) * columns + xx // side, (yy % side) * side + xx % side] = n + y * (width + 1) + x
    for p in range(side * side if rows else 0):
        y, x = divmod(p, side)
        region[1 + (y * rows // side) * columns + x * columns // side, p] = 1
    return slot, region, (height, width)


def fill(
    rng: np.random.Generator,
    slot: Array,
    region: Array,
    mosaic: tuple[int, int],
    question: int = 2,
    padding: float | None = None,
) -> Picture:
    """Random readings of 6 layers, 2 heads; `padding` overwrites what belongs to tokens without a slot.

    Attention from padding stays random: two methods' sums run over all queries.
    """
    tiles, n = slot.shape
    channels, width = 6, 8

    def draw(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32)

    def shares(*shape: int) -> Array:
        parts = rng.random(shape) ** 4
        return (parts / parts.sum(axis=-1, keepdims=True) * 0.9).astype(np.float32)

    layers = range(LAST_LAYER + 1)
    picture = Picture(
        features=draw(tiles, n, channels),
        slot=slot,
        region=region,
        mosaic=mosaic,
        attention={i: shares(tiles, HEADS, n) for i in layers},
        wide={i: shares(tiles, n) for i in layers},
        maps={i: shares(tiles, n + 1, n) for i in layers},
        received={i: shares(tiles, n) for i in layers},
        keys={i: draw(tiles, n, channels) for i in layers},
        class_feature=draw(tiles, channels),
        projected=draw(tiles, n, width),
        question=draw(3, width),
        question_weight=np.array([1 / question if m < question else 0 for m in range(3)], dtype=np.float32),
        entropy=(rng.random((tiles, n)) * 8).astype(np.float32),
        heads=HEADS,
    )
    if padding is not None:
        off = slot < 0
        for array in (picture.features, picture.projected, picture.entropy, *picture.keys.values()):
            array[off] = padding
        for array in (*picture.wide.values(), *picture.received.values()):
            array[off] = padding
        for array in (*picture.attention.values(), *picture.maps.values()):
            array[np.broadcast_to(off[:, None, :], array.shape)] = padding
    return picture


def drawn(
    rng: np.random.Generator,
    grid: tuple[int, int],
    side: int,
    absent: int = 0,
    crop: tuple[int, int] = (0, 0),
    extra: int = 0,
    question: int = 2,
    padding: float | None = None,
) -> Picture:
    """A random picture of the given layout."""
    return fill(rng, *layout(grid, side, absent, crop, extra), question=question, padding=padding)
