"""Controls inside the tower: seeded random patches, evenly spaced patches, pooled cells. Site `between`.

- random: every place of the tower's N patches has a number, numpy's default_rng(seed).random(N, float32); the
  patches with the highest numbers stay, in arriving order. A later cut goes on in the same order, so what stays at
  the second cut is what a single cut to that count would have kept. Open: whether each cut should draw anew (a
  `noise` of its own may be given), and whether tiles share their places (here they do).
- uniform: of A arriving patches in arriving order numbers floor((i + 0.5) A / K), as the method of that name.
- pool: exactly K rectangular cells, as the method `downsample` makes them of a grid; the mean by size, sizes add up.
  The place of a cell is its member at (first + last) // 2 of its rows and of its columns. Once only: what comes out has
  no grid. Cells of whole windows are the case where K is the number of windows.
"""

from __future__ import annotations

import numpy as np

from ...selection import pooling_cells
from .rows import Floats, Rows, Step, dropped, highest, merged, padding_first


def _random(rows: Rows, count: int, *, total: int, seed: int = 0, noise: Floats | None = None) -> Step:
    """`total` is N, the patches of the whole tower. Without places the arriving patches are taken as places 0, 1, .."""
    drawn = np.random.default_rng(seed).random(total, dtype=np.float32) if noise is None else noise
    place = np.arange(rows.n) - rows.first if rows.place is None else rows.place
    score = {i: float(drawn[place[i]]) for i in rows.patches}
    return dropped(rows, sorted(highest(rows.patches, score)[:count]))


def _uniform(rows: Rows, count: int) -> Step:
    there = rows.patches
    return dropped(rows, [there[(2 * i + 1) * len(there) // (2 * count)] for i in range(count)])


def _pool(rows: Rows, count: int, *, grid: tuple[int, int]) -> Step:
    height, width = grid
    if len(rows.patches) != height * width:
        raise ValueError(f"{len(rows.patches)} patches are no whole grid of {height} x {width}")
    groups = [(i, [i]) for i in range(rows.first)]
    for cell in pooling_cells(height, width, count):
        ys, zs = [y for y, _ in cell], [z for _, z in cell]
        centre = (min(ys) + max(ys)) // 2 * width + (min(zs) + max(zs)) // 2
        groups.append((rows.first + centre, [rows.first + y * width + z for y, z in cell]))
    return merged(rows, groups, rows.weight)


random = padding_first(_random)
uniform = padding_first(_uniform)
pool = padding_first(_pool)
