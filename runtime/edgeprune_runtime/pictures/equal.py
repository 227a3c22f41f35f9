"""What a picture shows more than once, by its pixels: found before the tower runs.

Tiles that are equal to the bit share one run of the tower, which changes nothing. Visual tokens that show what one before them shows are
left out on request only: a tower gives equal pixels at two places different features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgeprune_runtime.errors import RequestError
from edgeprune_runtime.pictures.packed import PackedPicture
from edgeprune_runtime.pictures.tiling import TileSpec

_LEVELS = 255


def twin_of(number: int, tiles: Sequence[np.ndarray] | np.ndarray, picture: PackedPicture) -> int | None:
    """The first tile before this one with the same pixels, to the bit, and padding in the same places; None: there is none."""
    mine, there = tiles[number], picture.slot >= 0
    row = mine.shape[1] // 2  # first: most tiles differ there
    for earlier, other in enumerate(tiles[:number]):
        alike = np.array_equal(mine[:, row], other[:, row]) and np.array_equal(mine, other)
        if alike and np.array_equal(there[number], there[earlier]):
            return earlier
    return None


def without_equal(
    picture: PackedPicture, tiles: NDArray[np.float32], tile: TileSpec, tolerance: float | None
) -> PackedPicture:
    """The picture without candidates that show the pixels of one before them, every channel of every pixel within `tolerance` of 255
    levels; None: the picture itself. tiles [T, 3, H, W], normalised.

    Raises RequestError for a tolerance that is none.
    """
    if tolerance is None:
        return picture
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not 0 <= tolerance < _LEVELS:
        raise RequestError(
            f"skip_equal is {tolerance!r}; expected a number of levels from 0 (equal pixels) to below 255"
        )
    slot = picture.slot.copy()
    numbers = tile.units_of(picture.place.view)[tile.extra if picture.place.view is None else 0 :]
    shown = _Shown(float(tolerance))
    for t, pixels in enumerate(tiles):
        for number, unit in zip(numbers, _units(pixels, tile), strict=True):
            if slot[t, number] >= 0 and shown.before(unit):
                slot[t, number] = -1
    slot.flags.writeable = False
    return replace(picture, slot=slot)


def _units(pixels: NDArray[np.float32], tile: TileSpec) -> NDArray[np.float32]:
    """pixels [3, H, W], normalised -> [units, 3, side * side] in levels, in raster order."""
    mean = np.asarray(tile.mean, np.float32)[:, None, None]
    std = np.asarray(tile.std, np.float32)[:, None, None]
    levels = np.rint((pixels * std + mean) / np.float32(tile.rescale))
    px = tile.unit_px
    rows, cols = (min(length // px, tile.side) for length in levels.shape[1:])
    parted = levels[:, : rows * px, : cols * px].reshape(3, rows, px, cols, px)
    units: NDArray[np.float32] = parted.transpose(1, 3, 0, 2, 4).reshape(rows * cols, 3, px * px)
    return units


class _Shown:
    """Units that were shown. Compared is with those that stayed, so differences do not add up."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._means = np.empty((64, 3), np.float32)
        self._units: list[NDArray[np.float32]] = []

    def before(self, unit: NDArray[np.float32]) -> bool:
        """Whether an equal one was shown; the unit is noted otherwise."""
        mean, count = unit.mean(axis=1), len(self._units)
        # Means of equal units are equal to the tolerance, and rounding of sums.
        near = np.flatnonzero((np.abs(self._means[:count] - mean) <= self._tolerance + 1e-3).all(axis=1))
        if any(np.abs(self._units[i] - unit).max() <= self._tolerance for i in near):
            return True
        if count == len(self._means):
            self._means = np.concatenate([self._means, np.empty_like(self._means)])
        self._means[count] = mean
        self._units.append(unit)
        return False
