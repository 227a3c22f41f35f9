"""MCTF: pairs of rows that are alike, receive little attention and are small merge, before a block that then uses their merged attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.tokens import select
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.inside.tower.rows import BlockRows, Rows, TowerCut, only, owners, sizes
from edgeprune.tokens.inside.tower.tome import sides
from edgeprune.tokens.registry.method import Setting
from edgeprune.tokens.similar import cosine

if TYPE_CHECKING:
    from torch import Tensor

_LEAST = 10  # rows that stay whatever is asked for, as in the source
_SIMILAR = Setting("tau_similarity", 1, "temperature of the likeness of two rows", least=1e-3)
_ATTENDED = Setting("tau_attention", 20, "temperature of the attention that two rows receive", least=1e-3)
_SMALL = Setting("tau_size", 40, "temperature of the sizes of two rows", least=1e-3)


def _step(rows: Rows, block: BlockRows, cut: TowerCut) -> Rows:
    """Half of what leaves goes from even rows to odd ones, the rest from odd ones to even ones that are left."""
    taus = [cut.settings.get(one.name, one.default) for one in (_SIMILAR, _ATTENDED, _SMALL)]
    maps, size = block.attention(), sizes(rows)
    asked = maps.mean(dim=(0, 1))
    likeness = torch.log(torch.clamp((cosine(rows.x[::2], rows.x[1::2]) + 1) / 2, min=1e-30)) / taus[0]
    own = -torch.log(asked) / taus[1] - torch.log(size) / taus[2]  # constants of a whole cut change no order
    pairs = sides(likeness + own[::2, None] + own[1::2], rows, cut)  # [A, B]
    less = rows.x.shape[0] - cut.first - cut.keep
    first, evens, odds = less // 2, pairs.shape[0], pairs.shape[1]

    value, partner = pairs.max(dim=1)
    order = select.descending(value)
    going, left = order[:first], select.ascending_values(order[first:])
    if rows.alive is not None:  # nobody joins padding that is left
        pairs = torch.where((rows.alive[::2] > 0)[:, None], pairs, float("-inf"))
    back, onto = pairs[left].max(dim=0)  # of every odd row over the even ones that are left
    if rows.alive is not None:
        back = torch.where(rows.alive[1::2] > 0, back, float("inf"))
    ranked = select.descending(back)
    joining, staying = ranked[: less - first], ranked[less - first :]

    of_odd = torch.zeros(odds, dtype=torch.int64)
    of_odd = of_odd.index_copy(0, staying, left.shape[0] + torch.arange(staying.shape[0]))
    of_odd = of_odd.index_copy(0, joining, onto[joining])
    of_even = torch.zeros(evens, dtype=torch.int64).index_copy(0, left, torch.arange(left.shape[0]))
    of_even = of_even.index_copy(0, going, of_odd[partner[going]])
    into = torch.cat([torch.stack([of_even[:odds], of_odd], dim=1).flatten(), of_even[odds:]])
    index, gone = torch.cat([2 * left, 2 * staying + 1]), torch.cat([2 * going, 2 * joining + 1])
    return _merged(rows, maps, asked * size, index, into, gone)


def _merged(rows: Rows, maps: Tensor, pooling: Tensor, index: Tensor, into: Tensor, gone: Tensor) -> Rows:
    """Rows by the group [n] that each is in: columns of attention are summed, rows and their attention averaged."""
    if rows.alive is not None:
        pooling = pooling * torch.clamp(rows.alive, min=1e-6)
    member = (into == torch.arange(index.shape[0])[:, None]).to(rows.x.dtype)  # [m, n]
    weight = member * pooling
    weight = weight / weight.sum(dim=1, keepdim=True)
    size = sizes(rows) if rows.alive is None else torch.clamp(sizes(rows) * rows.alive, min=1e-6)
    return only(rows, index)._replace(
        x=weight @ rows.x,
        size=member @ size,
        attention=weight @ (maps @ member.T),
        owner=owners(rows, index, gone, into[gone]),
    )


MCTF = TowerMethod(
    "mctf",
    "pairs of tokens that are alike, receive little attention and are small merge, in both directions",
    "MCTF, arXiv 2403.10030, repository mlvlab/MCTF",
    evidence="code read",
    differs="at the given blocks only; values of the merged rows come with queries and keys that nobody reads",
    settings=(_SIMILAR, _ATTENDED, _SMALL),
    step=_step,
    site="before",
    sizes=True,
    one_prefix=True,
    least=lambda tokens: max(tokens - tokens // 2, min(_LEAST - 1, tokens - 1)),
    steady=False,
)
