"""Which grid of a set a picture gets, in exact fractions.

The rule: the grid that stretches the picture least. Resizing a picture of h x w pixels to H x W scales its height by H/h and
its width by W/w; the stretch is the larger of both scales over the smaller, so a picture and its transpose are treated alike.
Among grids that stretch alike, InternVL's tie-break: in the order of (pixels, width, height), a later one takes over where
the picture has more than half of its pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

Size = tuple[int, int]  # height and width in pixels


def stretch(picture: Size, grid: Size) -> Fraction:
    """How much more one side is scaled than the other, 1 or above."""
    ratio = Fraction(grid[0] * picture[1], grid[1] * picture[0])
    return max(ratio, 1 / ratio)


def nearest_grid(picture: Size, grids: Sequence[Size]) -> Size:
    """The grid that the picture is resized to."""
    ordered = sorted(set(grids), key=lambda grid: (grid[0] * grid[1], grid[1], grid[0]))
    best = ordered[0]
    for grid in ordered[1:]:
        change = stretch(picture, grid) - stretch(picture, best)
        if change < 0 or (change == 0 and 2 * picture[0] * picture[1] > grid[0] * grid[1]):
            best = grid
    return best
