"""GTP-ViT: the tokens that leave are spread over their neighbours in a graph that is made once, from the embedded patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeprune.later import torch
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.inside.tower.rows import BlockRows, Rows, TowerCut, best, only
from edgeprune.tokens.registry.method import Setting
from edgeprune.tokens.similar import among

if TYPE_CHECKING:
    from torch import Tensor

_ALPHA = Setting("alpha", 0.2, "share of a token that reaches its neighbours; 0.1 to 0.4 in the source")
_NEAREST = Setting("neighbours", 8, "most similar patches that a patch is linked to", least=1, whole=True)


def _start(rows: Rows, block: BlockRows, cut: TowerCut) -> Rows:
    """links [p, p]: between patches that touch or are alike, divided by the roots of both degrees."""
    height, width = cut.grid
    y, x = np.divmod(np.arange(height * width), width)
    far = np.maximum(abs(y[:, None] - y), abs(x[:, None] - x))
    own = torch.eye(height * width)
    like = torch.where(own > 0, 1.0, among(rows.x[cut.first :]))
    nearest = min(int(cut.settings.get(_NEAREST.name, _NEAREST.default)), height * width)
    least = torch.sort(like, dim=1, descending=True, stable=True).values[:, nearest - 1 : nearest]
    links = torch.maximum(torch.from_numpy((far == 1).astype(np.float32)), (like >= least).to(like.dtype)) * (1 - own)
    degree = torch.clamp(links.sum(dim=1), min=1e-12) ** -0.5
    return rows._replace(links=links * degree[:, None] * degree)


def _step(rows: Rows, block: BlockRows, cut: TowerCut) -> Rows:
    """What stays has the highest product of attention to itself and attention received, each the largest over heads."""
    assert rows.links is not None
    maps, first = block.attention(), cut.first
    score = maps.diagonal(dim1=1, dim2=2).amax(dim=0) * maps.sum(dim=1).amax(dim=0)
    index, gone = best(rows, score[first:], cut)
    stay, leave = index[first:] - first, gone - first
    alpha = cut.settings.get(_ALPHA.name, _ALPHA.default)
    there = rows.x[gone] if rows.alive is None else rows.x[gone] * rows.alive[gone][:, None]
    spread = alpha * rows.links[stay][:, leave] @ there
    left = only(rows, index)
    return left._replace(x=_behind(left.x, spread, first), links=rows.links[stay][:, stay])


def _behind(x: Tensor, added: Tensor, first: int) -> Tensor:
    return torch.cat([x[:first], x[first:] + added]) if first else x + added


GTP = TowerMethod(
    "gtp",
    "the tokens that attend to themselves and receive attention stay, the others are spread over their neighbours",
    "GTP-ViT, arXiv 2311.03035, repository Ackesnal/GTP-ViT",
    evidence="code read",
    differs="at the given blocks only; all of the attention map counts (theta 1), and there are no token scales",
    settings=(_ALPHA, _NEAREST),
    step=_step,
    start=_start,
    steady=False,
)
