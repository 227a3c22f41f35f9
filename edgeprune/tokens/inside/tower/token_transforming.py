"""Token Transforming: every token is shared out among the anchors that stay, by its likeness to each."""

from __future__ import annotations

from edgeprune.later import torch
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.inside.tower.rows import BlockRows, Rows, TowerCut, best, importance, only, owners, sizes
from edgeprune.tokens.registry.method import Setting
from edgeprune.tokens.similar import cosine

_TAU = Setting(
    "tau", 0.01, "temperature of the shares; the smaller, the more of a token goes to one anchor", least=1e-4
)


def _step(rows: Rows, block: BlockRows, cut: TowerCut) -> Rows:
    """Anchors are shared out like the others; the prefix passes through."""
    first = cut.first
    index, _ = best(rows, importance(rows, block, cut), cut)
    tokens = torch.arange(first, rows.x.shape[0])
    like = cosine(rows.x[index[first:]], rows.x[first:]) / cut.settings.get(_TAU.name, _TAU.default)
    if rows.alive is not None:  # padding that is left takes nothing
        like = torch.where((rows.alive[index[first:]] > 0)[:, None], like, -1e9)
    shares = torch.softmax(like, dim=0)  # [K, tokens]
    mass = sizes(rows) if rows.alive is None else sizes(rows) * rows.alive
    weights = shares * mass[first:]
    whole = torch.clamp(weights.sum(dim=1), min=1e-6)
    mixed = weights @ rows.x[first:] / whole[:, None]
    stay = only(rows, index)
    return stay._replace(
        x=torch.cat([stay.x[:first], mixed]),
        size=torch.cat([sizes(stay)[:first], whole]),
        owner=owners(rows, index, tokens, torch.argmax(shares, dim=0) + first),
    )


TOKEN_TRANSFORMING = TowerMethod(
    "token-transforming",
    "every token is shared out among those with the highest class attention, by its likeness to each",
    "Token Transforming, arXiv 2506.05709; no code is published",
    evidence="reconstruction",
    differs="anchors, likeness and temperature are ours: only the form X' = W X with a dense W is published",
    settings=(_TAU,),
    step=_step,
    sizes=True,
    steady=False,
)
