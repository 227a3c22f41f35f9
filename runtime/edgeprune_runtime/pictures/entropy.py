"""How much is in a patch: the Shannon entropy of its grey values, which some methods add to their score."""

from __future__ import annotations

import numpy as np

from edgeprune_runtime.spec import Preprocess

_LEVELS = 256


def patch_entropy(pixels: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """pixels [3, P, P], normalised -> [N] bits: entropy of a 256-bin histogram of each patch's grey values.

    Pixels are taken back to 0..255 first; grey is the mean of the channels. Tokens that are no patch get that of the first patch.
    """
    mean = np.asarray(preprocess.mean, np.float32)[:, None, None]
    std = np.asarray(preprocess.std, np.float32)[:, None, None]
    grey = ((pixels * std + mean) / np.float32(preprocess.rescale)).mean(axis=0)
    level = np.clip(np.rint(grey), 0, _LEVELS - 1).astype(np.int64)
    side, px = preprocess.patches, preprocess.patch_px
    patches = level[: side * px, : side * px].reshape(side, px, side, px).transpose(0, 2, 1, 3).reshape(side * side, -1)
    offset = np.arange(side * side)[:, None] * _LEVELS
    counts = np.bincount((patches + offset).ravel(), minlength=side * side * _LEVELS).reshape(-1, _LEVELS)
    share = counts / patches.shape[1]
    bits = -(share * np.log2(np.where(share > 0, share, 1))).sum(axis=1)
    return np.concatenate([np.repeat(bits[:1], preprocess.extra_tokens), bits]).astype(np.float32)
