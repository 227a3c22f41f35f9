"""Controls: what any method must beat, and the whole picture."""

from __future__ import annotations

from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine, score, select
from edgeprune.tokens.pool import pool
from edgeprune.tokens.registry.method import Method, Setting
from edgeprune.tokens.seen import Reduction, TowerOutputs

_SEED = Setting("seed", 0, "of the draw", whole=True)


def _random(seen: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    return combine.drop(select.by_score(score.noise(seen, int(_SEED(plan))), seen.slot, keep))


def _uniform(seen: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    return combine.drop(select.by_stride(seen.slot, keep))


def _downsample(seen: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    return pool(seen, keep)


RANDOM = Method("random", "seeded random tokens", "control", _random, evidence="control", settings=(_SEED,))
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
