"""What becomes of the tokens that are not kept: dropped, or merged into rows.

`apply` turns a Reduction into rows; a drop is a gather, a merge one small matrix product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.tokens.readings import Reduction, TowerOutputs

if TYPE_CHECKING:
    from torch import Tensor


def drop(index: Tensor) -> Reduction:
    """Keep the chosen tokens as they are."""
    return Reduction(index, None)


def merge(index: Tensor, transform: Tensor, slot: Tensor) -> Reduction:
    """Merge tokens; with no more candidates than rows everything stays as it is, and rows without a token are zero."""
    own = itself(index, slot.numel())
    crowded = (slot >= 0).sum() > index.shape[0]
    return Reduction(index, torch.where(crowded & (index >= 0)[:, None], transform, own))


def itself(index: Tensor, total: int) -> Tensor:
    """Every row is its own token: [K, T * N]; zeros where index is -1."""
    return joined(index, torch.arange(total))


def joined(index: Tensor, target: Tensor) -> Tensor:
    """1 where a token goes to a row: index [K], target [T * N] flat token that each one joins, below -1 for none; [K, T * N]."""
    return (index.to(torch.int32)[:, None] == target.to(torch.int32)).to(torch.float32)


def mean(members: Tensor) -> Tensor:
    """Weights [K, T * N] scaled so that each row sums to 1; rows that sum to 0 become zeros."""
    total = members.sum(dim=1, keepdim=True)
    return torch.where(total == 0, 0.0, members / torch.where(total == 0, 1.0, total))


def mean_or_itself(members: Tensor, index: Tensor) -> Tensor:
    """The same, but a row whose weights sum to 0 is its own token."""
    own = itself(index, members.shape[1])
    return mean(torch.where(members.sum(dim=1, keepdim=True) == 0, own, members))


def inside(index: Tensor, rows: Tensor, tiles: int) -> Tensor:
    """Weights within the tile of each kept token, [K, N], as weights over all tiles: [K, T * N]."""
    tile = torch.div(index, rows.shape[1], rounding_mode="floor")
    return torch.where((tile[:, None] == torch.arange(tiles))[:, :, None], rows[:, None], 0.0).flatten(1)


def apply(outputs: TowerOutputs, reduction: Reduction) -> Tensor:
    """The reduced features [K, C]; rows without a token hold token 0 (drop) or zeros (merge) and are never read."""
    return taken(outputs.features, reduction)


def taken(features: Tensor, reduction: Reduction) -> Tensor:
    """The same of other features [T, N, C] of the same tokens."""
    flat = features.flatten(0, 1)
    if reduction.transform is None:
        return flat[torch.clamp(reduction.index, min=0)]
    return reduction.transform @ flat
