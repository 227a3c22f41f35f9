"""Pictures as the libraries of some families know them: one row of pixels per patch, the patches of a visual token one after the other.

A row holds channel, frame, y, x of its patch; a still picture shows every frame the same pixels. Inside a tower with windows, rows go
window after window besides.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgeprune.models.spec import TowerSpec


def rows_of_tile(tile: Tensor, spec: TowerSpec, merge: int) -> Tensor:
    """tile [3, H, W] -> [R, 3 * frames * p * p]."""
    (rows, cols), p = spec.grid, spec.patch_px
    blocks = tile.reshape(3, rows // merge, merge, p, cols // merge, merge, p).permute(1, 4, 2, 5, 0, 3, 6)
    frames = blocks[..., None, :, :].expand(*blocks.shape[:5], spec.frames, p, p)
    return frames.reshape(rows * cols, -1)


def tile_of_rows(values: Tensor, spec: TowerSpec, merge: int) -> Tensor:
    """[R, 3 * frames * p * p] -> the first frame as [3, H, W]."""
    (rows, cols), p = spec.grid, spec.patch_px
    blocks = values.reshape(rows // merge, cols // merge, merge, merge, 3, spec.frames, p, p)[..., 0, :, :]
    return blocks.permute(4, 0, 2, 5, 1, 3, 6).reshape(3, rows * p, cols * p)


def raster_numbers(spec: TowerSpec, merge: int) -> Tensor:
    """[R]: which patch in raster order each row of a block is."""
    rows, cols = spec.grid
    inside = (spec.window or merge) // merge
    high, wide = (rows // merge, cols // merge) if spec.window is None else (inside, inside)
    number = torch.arange(rows * cols).reshape(rows // merge // high, high, merge, cols // merge // wide, wide, merge)
    return number.permute(0, 3, 1, 4, 2, 5).reshape(-1)


def grid_thw(spec: TowerSpec) -> Tensor:
    """[1, 3]: one frame of so many rows and columns of patches."""
    return torch.tensor([[1, *spec.grid]])
