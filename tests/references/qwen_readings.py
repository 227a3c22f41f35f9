"""What Qwen-VL's tower shows of one picture, block by block: queries, keys and values after the rotation, and who saw whom.

Computed in float64 of what the library's fused projections give, with the rotation and the windows of the other references.
Patches come cell by cell, as the tower takes them; a cell's reading is the mean over its patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.references.qwen_rope import tower_angles
from tests.references.qwen_tower import block_order, window_order, window_side

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ShownBlock:
    """One block: [H, P, d] each, and the groups of patches that see each other: one group where the block sees everything."""

    queries: Array
    keys: Array
    values: Array
    groups: list[list[int]]

    @property
    def sees_everything(self) -> bool:
        return len(self.groups) == 1

    def maps(self) -> Array:
        """Attention [H, P, P] of every query; 0 outside its group."""
        heads, patches, width = self.keys.shape
        maps = np.zeros((heads, patches, patches))
        for head in range(heads):
            for group in self.groups:
                scores = self.queries[head][group] @ self.keys[head][group].T / width**0.5
                weights = np.exp(scores - scores.max(axis=1, keepdims=True))
                maps[head][np.ix_(group, group)] = weights / weights.sum(axis=1, keepdims=True)
        return maps


def shown_blocks(model: Any, pixels: torch.Tensor, rows: int, columns: int) -> list[ShownBlock]:
    """All blocks of the tower for a picture of rows x columns patches."""
    tower, fused = model.model.visual, []
    hooks = [
        block.attn.qkv.register_forward_hook(lambda module, inputs, out: fused.append(out.double().numpy()))
        for block in tower.blocks
    ]
    try:
        with torch.no_grad():
            tower(pixels, grid_thw=torch.tensor([[1, rows, columns]]))
    finally:
        for hook in hooks:
            hook.remove()
    return [_shown(model, index, each, rows, columns) for index, each in enumerate(fused)]


def tower_order(model: Any, rows: int, columns: int) -> tuple[list[int], list[int]]:
    """In which order the blocks hold the patches, and how many patches each window has; no windows: all in one."""
    vision = model.config.vision_config
    merge, cell = vision.spatial_merge_size, vision.spatial_merge_size**2
    if not hasattr(vision, "window_size"):
        return list(range(rows * columns)), [rows * columns]
    side = window_side(vision.window_size, merge, vision.patch_size)
    cells, sizes = window_order(rows // merge, columns // merge, side)
    return [index * cell + inner for index in cells for inner in range(cell)], [size * cell for size in sizes]


def per_cell(values: Array, axis: int, merge: int) -> Array:
    """The mean of the patches of each cell along one axis."""
    first = np.moveaxis(values, axis, 0)
    cell = merge * merge
    means = [first[start : start + cell].mean(axis=0) for start in range(0, len(first), cell)]
    return np.moveaxis(np.stack(means), 0, axis)


def cell_keys(block: ShownBlock, merge: int) -> Array:
    """Keys [N, H, d] of cells."""
    return per_cell(block.keys, 1, merge).transpose(1, 0, 2)


def cell_map(block: ShownBlock, merge: int) -> Array:
    """Attention [N, N] between cells: the mean over heads, asking patches and asked patches."""
    return per_cell(per_cell(block.maps().mean(axis=0), 0, merge), 1, merge)


def cell_received(block: ShownBlock, merge: int) -> Array:
    """Attention [N] that cells receive, the mean over heads and all asking patches."""
    return per_cell(block.maps().mean(axis=(0, 1)), 0, merge)


def _shown(model: Any, index: int, fused: Array, rows: int, columns: int) -> ShownBlock:
    tower, vision = model.model.visual, model.config.vision_config
    order, sizes = tower_order(model, rows, columns)
    straight = np.empty_like(fused)
    straight[order] = fused
    heads = tower.blocks[index].attn.num_heads
    queries, keys, values = straight.reshape(len(straight), 3, heads, -1).transpose(1, 2, 0, 3)
    places = block_order(rows, columns, vision.spatial_merge_size)
    angles = tower_angles(places, keys.shape[2])
    whole = index in getattr(vision, "fullatt_block_indexes", [index])
    groups, start = [], 0
    for size in sizes:
        groups.append(order[start : start + size])
        start += size
    return ShownBlock(
        _turned(queries, angles), _turned(keys, angles), values, [list(range(len(order)))] if whole else groups
    )


def _turned(heads: Array, angles: Array) -> Array:
    """Each number of the first half of a head with the one at its place in the second, turned by their angle."""
    half = heads.shape[2] // 2
    out = np.empty_like(heads)
    for pair in range(half):
        one, other, angle = heads[:, :, pair], heads[:, :, half + pair], angles[:, pair]
        out[:, :, pair] = one * np.cos(angle) - other * np.sin(angle)
        out[:, :, half + pair] = other * np.cos(angle) + one * np.sin(angle)
    return out
