"""Importance from the weights alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.later import torch, without_gradients
from edgeprune.structure.importance.base import Importance
from edgeprune.structure.sites import PruningSite
from edgeprune.structure.statistics import SiteStatistics

if TYPE_CHECKING:
    from torch import Tensor


@without_gradients
def magnitude(site: PruningSite, stats: SiteStatistics, seed: int) -> Tensor:
    """sqrt of the sum of w^2 over all members of a unit, biases included: [units]."""
    total = _by_column(site, site.out.weight.double().square())
    for weight, bias in site.matrices:
        total = total + _by_row(site, weight.double().square())
        if bias is not None:
            total = total + bias.double().square().reshape(site.units, -1).sum(dim=1)
    return total.sqrt()


@without_gradients
def dimap(site: PruningSite, stats: SiteStatistics, seed: int) -> Tensor:
    """Mean over a unit's weights (no biases) of w^2 / sum of v^2 over the same matrix's weights v with |v| >= |w|: [units]."""
    total = _by_column(site, information(site.out.weight))
    for weight, _ in site.matrices:
        total = total + _by_row(site, information(weight))
    members = sum(matrix.weight.numel() for matrix in (*site.inner, site.out)) // site.units
    return total / members


def information(weight: Tensor) -> Tensor:
    """w^2 over the sum of v^2 of all v with |v| >= |w|, itself included; 0 for zeros. Same shape, float64."""
    square = weight.detach().double().square().flatten()
    ordered, order = torch.sort(square, descending=True)
    tail = ordered.cumsum(dim=0)
    # Equal weights share the sum up to the last of them.
    last = torch.searchsorted(-ordered, -ordered, right=True) - 1
    share = torch.where(ordered > 0, ordered / tail[last].clamp_min(torch.finfo(torch.float64).tiny), 0.0)
    return torch.empty_like(share).scatter_(0, order, share).reshape(weight.shape)


def _by_row(site: PruningSite, matrix: Tensor) -> Tensor:
    return matrix.reshape(site.units, -1).sum(dim=1)


def _by_column(site: PruningSite, matrix: Tensor) -> Tensor:
    return matrix.sum(dim=0).reshape(site.units, -1).sum(dim=1)


ALL = (
    Importance("magnitude", "length of all weights of a unit", "group L2", "paper", magnitude),
    Importance("dimap", "share of each weight in its matrix's energy above it", "arXiv 2404.13648", "paper", dimap),
)
