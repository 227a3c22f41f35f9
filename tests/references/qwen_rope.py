"""Rotation angles of Qwen-VL in float64, pair by pair: the decoder's three axes, and rows and columns in the tower."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TIME, HEIGHT, WIDTH = 0, 1, 2


def sectioned_axes(sections: Sequence[int]) -> list[int]:
    """Axis of each rotated pair in Qwen2-VL and Qwen2.5-VL: time first, then rows, then columns, in one piece each."""
    axes: list[int] = []
    for axis, length in zip((TIME, HEIGHT, WIDTH), sections, strict=True):
        axes += [axis] * length
    return axes


def interleaved_axes(sections: Sequence[int], pairs: int) -> list[int]:
    """Axis of each rotated pair in Qwen3-VL: pairs 1, 4, 7 ... are rows and 2, 5, 8 ... columns, as long as sections last.

    A section of n reaches to pair 3n, also where fewer than n pairs of its kind lie below: the rest is lost, and what no
    axis takes is time.
    """
    axes: list[int] = []
    for pair in range(pairs):
        if pair % 3 == HEIGHT and pair < 3 * sections[HEIGHT]:
            axes.append(HEIGHT)
        elif pair % 3 == WIDTH and pair < 3 * sections[WIDTH]:
            axes.append(WIDTH)
        else:
            axes.append(TIME)
    return axes


def cos_sin(
    positions: NDArray[np.int64], axes: Sequence[int], theta: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosines and sines [S, 2 pairs] of rows at `positions` [3, S]; both halves of a head hold the same angles."""
    pairs, rows = len(axes), positions.shape[1]
    angles = np.empty((rows, 2 * pairs))
    for row in range(rows):
        for pair, axis in enumerate(axes):
            angle = float(positions[axis, row]) * theta ** (-pair / pairs)
            angles[row, pair] = angles[row, pairs + pair] = angle
    return np.cos(angles), np.sin(angles)


def tower_angles(places: Sequence[tuple[int, int]], width: int, theta: float = 10000.0) -> NDArray[np.float64]:
    """Angles [patches, width] of the tower's heads for patches at (row, column) of the whole picture.

    A quarter of the head turns by the row, the next by the column, and the second half repeats the first.
    """
    quarter = width // 4
    angles = np.empty((len(places), width))
    for patch, (row, column) in enumerate(places):
        for pair in range(quarter):
            frequency = theta ** (-pair / quarter)
            for half in (0, 2 * quarter):
                angles[patch, half + pair] = row * frequency
                angles[patch, half + quarter + pair] = column * frequency
    return angles
