"""Tokens that differ most from the mean of their tile stay."""

from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.inside.tower.rows import best, only


def step(rows, block, cut):
    tokens = rows.x[cut.first :]
    return only(rows, best(rows, (tokens - tokens.mean(dim=0)).norm(dim=1), cut)[0])


UNUSUAL = TowerMethod("unusual", "tokens far from the mean of their tile stay", "docs/examples/cut.py", step=step)
