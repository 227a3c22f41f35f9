"""Importance of heads by how much they look at the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.later import torch, without_gradients
from edgeprune.structure.importance.activations import activation
from edgeprune.structure.importance.base import Importance
from edgeprune.structure.sites import PruningSite
from edgeprune.structure.statistics import SiteStatistics

if TYPE_CHECKING:
    from torch import Tensor


@without_gradients
def yopo(site: PruningSite, stats: SiteStatistics, seed: int) -> Tensor:
    """Heads: attention of the last prompt position on visual tokens over its attention on all others; channels as `activation`: [units]."""
    if site.kind == "mlp":
        return activation(site, stats, seed)
    return torch.stack(stats.visual).double().mean(dim=0).reshape(site.units, -1).mean(dim=1)


ALL = (
    Importance(
        "yopo",
        "heads that look at the picture stay",
        "YOPO, arXiv 2410.06169",
        "reconstruction",
        yopo,
        frozenset({"inputs", "visual"}),
        parts=("language",),
    ),
)
