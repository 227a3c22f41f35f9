"""Importance from what passes through a unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.later import without_gradients
from edgeprune.structure.importance.base import Importance
from edgeprune.structure.sites import PruningSite
from edgeprune.structure.statistics import SiteStatistics

if TYPE_CHECKING:
    from torch import Tensor


@without_gradients
def activation(site: PruningSite, stats: SiteStatistics, seed: int) -> Tensor:
    """sqrt of the sum over columns i of mean(X_i^2) * ||W_i||^2: [units]."""
    energy = stats.square / stats.tokens * site.out.weight.double().square().sum(dim=0)
    return energy.reshape(site.units, -1).sum(dim=1).sqrt()


@without_gradients
def amp(site: PruningSite, stats: SiteStatistics, seed: int) -> Tensor:
    """Heads: mean L1 norm of what a query head adds, summed over its group; channels: mean |X|: [units]."""
    total = stats.passed if site.kind == "heads" else stats.magnitude
    return (total / stats.tokens).reshape(site.units, -1).sum(dim=1)


@without_gradients
def core(site: PruningSite, stats: SiteStatistics, seed: int) -> Tensor:
    """Channels: share of the tokens that have the channel in their core set; heads as `amp`: [units]."""
    return amp(site, stats, seed) if site.kind == "heads" else stats.core / stats.tokens


ALL = (
    Importance(
        "activation",
        "weights times the energy of what they read",
        "arXiv 2306.11695, by columns",
        "paper",
        activation,
        frozenset({"inputs"}),
    ),
    Importance(
        "amp",
        "projection of activations on weights for heads, size of activations for channels",
        "AMP",
        "code read",
        amp,
        frozenset({"inputs"}),
    ),
    Importance(
        "core",
        "how often a channel is among a token's strongest",
        "CoreMatching, arXiv 2505.19235",
        "reconstruction",
        core,
        frozenset({"inputs", "core"}),
    ),
)
