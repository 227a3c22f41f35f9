"""Controls: what any method must beat, and the whole picture."""

from __future__ import annotations

from edgeprune.plan import TokenPlan
from edgeprune.tokens import combine, score, select
from edgeprune.tokens.pool import pool
from edgeprune.tokens.registry.method import Method
from edgeprune.tokens.seen import Reduction, TowerOutputs


def _random(seen: TowerOutputs, keep: int, plan: TokenPlan) -> Reduction:
    return combine.drop(select.by_score(score.noise(seen, plan.seed), seen.slot, keep))


def _uniform(seen: TowerOutputs, keep: int, plan: TokenPlan) -> Reduction:
    return combine.drop(select.by_stride(seen.slot, keep))


def _downsample(seen: TowerOutputs, keep: int, plan: TokenPlan) -> Reduction:
    return pool(seen, keep)


RANDOM = Method("random", "seeded random tokens", "control", _random, evidence="control")
UNIFORM = Method("uniform", "every n-th token of the packed sequence", "control", _uniform, evidence="control")
DOWNSAMPLE = Method(
    "downsample",
    "average pooling into exactly K rectangular cells",
    "control",
    _downsample,
    evidence="control",
    cost="K N C",
)
FULL = Method("full", "nothing dropped: what budget 1.0 runs", "control", _uniform, evidence="control")
