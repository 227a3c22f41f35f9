"""Controls: what any method must beat, and the whole picture."""

from __future__ import annotations

from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine, score, select
from edgeprune.tokens.pool import pool
from edgeprune.tokens.readings import Reduction, TowerOutputs
from edgeprune.tokens.registry.method import Method, Setting

_SEED = Setting("seed", 0, "of the draw", whole=True)


def _random(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    return combine.drop(select.by_score(score.noise(outputs, int(_SEED(plan))), outputs.slot, keep))


def _uniform(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    return combine.drop(select.by_stride(outputs.slot, keep))


def _downsample(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    return pool(outputs, keep)


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
