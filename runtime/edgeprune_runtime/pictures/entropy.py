"""How much is in the pixels of a visual token: the Shannon entropy of its grey values, which some methods add to their score."""

from __future__ import annotations

import numpy as np

from edgeprune_runtime.pictures.tiling import TileSpec

_LEVELS = 256


def unit_entropy(pixels: np.ndarray, tile: TileSpec) -> np.ndarray:
    """pixels [3, H, W], normalised -> [N] bits: entropy of a 256-bin histogram of the grey values that each visual token shows.

    H x W is a tile or, where that has a view, the view, and N counts its tokens.

    Pixels are taken back to 0..255 first; grey is the mean of the channels. Tokens that are no patch get that of the first patch.
    """
    mean = np.asarray(tile.mean, np.float32)[:, None, None]
    std = np.asarray(tile.std, np.float32)[:, None, None]
    grey = ((pixels * std + mean) / np.float32(tile.rescale)).mean(axis=0)
    level = np.clip(np.rint(grey), 0, _LEVELS - 1).astype(np.int64)
    px = tile.unit_px
    rows, cols = (min(length // px, tile.side) for length in level.shape)
    units = level[: rows * px, : cols * px].reshape(rows, px, cols, px).transpose(0, 2, 1, 3).reshape(rows * cols, -1)
    offset = np.arange(rows * cols)[:, None] * _LEVELS
    counts = np.bincount((units + offset).ravel(), minlength=rows * cols * _LEVELS).reshape(-1, _LEVELS)
    share = counts / units.shape[1]
    bits = -(share * np.log2(np.where(share > 0, share, 1))).sum(axis=1)
    return np.concatenate([np.repeat(bits[:1], tile.extra), bits]).astype(np.float32)
