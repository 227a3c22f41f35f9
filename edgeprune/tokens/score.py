"""How much each token matters: [T, N], higher is kept first."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgeprune.tokens.seen import Seen


def cls_attention(seen: Seen, layer: int) -> Tensor:
    """Attention of the class token in `layer`, summed over heads (HiRED, arXiv 2408.10945: f_ij)."""
    return seen.attention[layer].sum(dim=1)


def noise(seen: Seen, seed: int) -> Tensor:
    """Seeded uniform scores in [0, 1); the same for every picture, so a run can be repeated."""
    values = np.random.default_rng(seed).random(tuple(seen.slot.shape), dtype=np.float32)
    return torch.from_numpy(values)
