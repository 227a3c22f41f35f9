"""How much each tile deserves: [T], relative to one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.tokens.readings import TowerOutputs

if TYPE_CHECKING:
    from torch import Tensor


def equal(outputs: TowerOutputs) -> Tensor:
    """The same share for every tile."""
    return torch.ones(outputs.slot.shape[0])


def region_mass(outputs: TowerOutputs, layer: int, alpha: float) -> Tensor:
    """HiRED's shares (arXiv 2408.10945, sec. 3): alpha for the overview, the rest by early attention inside each tile's area.

    s_t = sum over heads and over the overview's tokens in region t of the class token's attention in `layer`;
    w_0 = alpha, w_t = (1 - alpha) * s_t / sum(s).
    """
    on_overview = outputs["attention", layer][0].sum(dim=0)  # [N]
    mass = (outputs.region * on_overview).sum(dim=1)  # [T]; zero for the overview's own row
    total = mass.sum()
    shares = mass / torch.where(total > 0, total, torch.ones_like(total))
    return torch.cat([shares.new_full((1,), alpha), (1 - alpha) * shares[1:]])
