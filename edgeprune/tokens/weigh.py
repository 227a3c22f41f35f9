"""How much each tile deserves: [T], relative to one another."""

from __future__ import annotations

import torch
from torch import Tensor

from edgeprune.tokens.seen import TowerOutputs


def equal(seen: TowerOutputs) -> Tensor:
    """The same share for every tile."""
    return torch.ones(seen.slot.shape[0])


def region_mass(seen: TowerOutputs, layer: int, alpha: float) -> Tensor:
    """HiRED's shares (arXiv 2408.10945, sec. 3): alpha for the thumbnail, the rest by early attention inside each tile's area.

    s_t = sum over heads and over thumbnail patches in region t of the class token's attention in `layer`;
    w_0 = alpha, w_t = (1 - alpha) * s_t / sum(s).
    """
    on_thumbnail = seen.attention[layer][0].sum(dim=0)  # [N]
    mass = (seen.region * on_thumbnail).sum(dim=1)  # [T]; zero for the thumbnail's own row
    total = mass.sum()
    shares = mass / torch.where(total > 0, total, torch.ones_like(total))
    return torch.cat([shares.new_full((1,), alpha), (1 - alpha) * shares[1:]])
