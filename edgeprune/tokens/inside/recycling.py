"""SparseVLM's recycling: the best of the rows that leave are clustered, and each cluster stays as the mean of its rows.

Clusters by density peaks (DPC-KNN). All sizes are those of the most rows that can leave; how many do is masked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from edgeprune.later import torch
from edgeprune_runtime.stages.recycled import most_recycled

if TYPE_CHECKING:
    from torch import Tensor

    from edgeprune.tokens.inside.rows import LanguageRows

_FAR = 1e30


class Recycled(NamedTuple):
    """centres [E] numbers of rows, the first `number` of them in use; weights [E, L]: row i that stays is weights[i] @ rows."""

    centres: Tensor
    number: Tensor
    weights: Tensor


def recycle(states: Tensor, order: Tensor, keep: Tensor, visual: Tensor) -> Recycled:
    """What becomes of visual rows number keep, keep + 1, .. of an order.

    states [L, D]; order [L] numbers of rows, the visual ones first, best first; keep [] how many of them stay; visual [] how many there are
    """
    size, width = states.shape
    rows, extra = most_recycled(size)
    leaving = torch.clamp(visual - keep, min=0)
    clustered = torch.where(leaving > 0, torch.div(leaving * 3, 10, rounding_mode="floor") + 1, 0)
    count = torch.where(leaving > 0, torch.div(clustered, 10, rounding_mode="floor") + 1, 0)
    place = torch.arange(rows)
    used = place < clustered
    taken = order[torch.clamp(keep + place, max=size - 1)]
    members = torch.sort(torch.where(used, taken, taken + size), stable=True).values
    members = torch.where(used, members, 0)
    points = states[members]
    apart = _squares(points)
    pairs = used[:, None] & used
    nearest = torch.sort(torch.where(pairs, apart, _FAR), dim=1).values[:, :extra]
    among = torch.arange(extra) < torch.minimum(count, clustered)
    mean = torch.where(among, nearest, 0.0).sum(dim=1) / torch.clamp(among.sum(), min=1) / width
    density = torch.exp(-mean)
    denser = pairs & (density > density[:, None])
    distance = torch.sqrt(apart / width)
    farthest = torch.where(pairs, distance, 0.0).max()
    away = torch.where(denser.any(dim=1), torch.where(denser, distance, _FAR).amin(dim=1), farthest)
    peak = torch.where(used, density * away, -1.0)
    centres = torch.sort(peak, descending=True, stable=True).indices[:extra]
    chosen = torch.arange(extra) < count
    itself = (place[:, None] == centres) & chosen
    far = torch.where(itself, -1.0, torch.where(chosen, apart[:, centres], _FAR))
    home = torch.sort(far, dim=1, stable=True).indices[:, 0]
    belongs = ((home == torch.arange(extra)[:, None]) & used).to(states.dtype)
    weights = belongs / (belongs.sum(dim=1, keepdim=True) + 1e-6)
    spread = torch.zeros(extra, size + 1)
    where = torch.where(used, members, size).expand(extra, rows)
    return Recycled(members[centres], count, spread.scatter(1, where, weights)[:, :size])


def recycled_of(states: Tensor, score: Tensor, rows: LanguageRows) -> Recycled:
    """Likewise for a ranking: states and score of the rows that arrive, [L, D] and [L]."""
    visual = rows.visual.sum()
    order = torch.sort(torch.where(rows.visual, score, float("-inf")), descending=True, stable=True).indices
    return recycle(states, order, torch.minimum(rows.count, visual), visual)


def standing(means: Recycled, size: int) -> Tensor:
    """[L] int64: number of the cluster that stands at a row, -1 elsewhere."""
    extra = len(means.centres)
    used = torch.arange(extra) < means.number
    nobody = torch.full((size + 1,), -1, dtype=torch.int64)
    return nobody.scatter(0, torch.where(used, means.centres, size), torch.arange(extra))[:size]


def _squares(points: Tensor) -> Tensor:
    """Squared distances [m, m] of points [m, D], their mean taken off first so that they are rounded less; 0 to itself."""
    points = points - points.mean(dim=0)
    length = (points * points).sum(dim=1)
    apart = torch.clamp(length[:, None] + length - 2 * points @ points.T, min=0.0)
    return apart * (1 - torch.eye(len(points)))
