"""Importance from what the loss or the layer's output loses when a unit goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.later import torch, without_gradients
from edgeprune.structure.importance.base import Importance
from edgeprune.structure.sites import PruningSite
from edgeprune.structure.statistics import SiteStatistics

if TYPE_CHECKING:
    from torch import Tensor

DAMPING = 0.01
LEAST = 1e-100  # of a mean diagonal: where nothing was measured there is still an inverse, and no NaN


@without_gradients
def taylor(site: PruningSite, stats: SiteStatistics, seed: int) -> Tensor:
    """Mean over samples of T^2, T the first-order change of the loss when the unit becomes zero: [units]."""
    return torch.stack(stats.taylor).square().mean(dim=0)


@without_gradients
def obs(site: PruningSite, stats: SiteStatistics, seed: int) -> Tensor:
    """trace(W_S ((H^-1)_SS)^-1 W_S^T): output energy lost when the columns S go and the others make up for it: [units]."""
    inverse = torch.linalg.inv(damped(stats.moment / stats.tokens))
    width, units = site.width, site.units
    blocks = inverse.reshape(units, width, units, width)[torch.arange(units), :, torch.arange(units)]  # [units, w, w]
    columns = site.out.weight.double().reshape(-1, units, width).permute(1, 2, 0)  # [units, w, D]
    lost: Tensor = (columns * torch.linalg.solve(blocks, columns)).sum(dim=(1, 2))
    return lost


def damped(moment: Tensor, damping: float = DAMPING) -> Tensor:
    """The moment with a share of its mean diagonal added to the diagonal, so that it can be inverted. [n, n] -> [n, n]."""
    level = moment.diagonal().mean().clamp_min(LEAST)
    added: Tensor = damping * level * torch.eye(len(moment), dtype=moment.dtype)
    return moment + added


ALL = (
    Importance(
        "taylor",
        "first-order change of the loss without the unit",
        "arXiv 1906.10771",
        "paper",
        taylor,
        frozenset({"gradients"}),
    ),
    Importance(
        "obs",
        "output energy lost after the best possible compensation",
        "OBSPA, arXiv 2403.18955",
        "reconstruction",
        obs,
        frozenset({"moments"}),
        noise=True,
    ),
)
