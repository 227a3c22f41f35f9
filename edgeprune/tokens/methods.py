"""Named token-reduction methods: each a composition of score, weigh, select and combine.

A method is a function (seen, keep, options) -> Reduction plus what a user must know about it. Adding one is one entry here, or an
entry point in the group `edgeprune.methods`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeprune.plan import TokenPlan
from edgeprune.registry import Registry
from edgeprune.tokens import combine, score, select, weigh
from edgeprune.tokens.seen import Reduction, Seen


@dataclass(frozen=True)
class Method:
    """`reduce` chooses `keep` tokens; `layers(plan)` names the vision layers whose class-token attention it reads."""

    name: str
    summary: str
    source: str
    reduce: Callable[[Seen, int, TokenPlan], Reduction]
    layers: Callable[[TokenPlan], tuple[int, ...]] = lambda plan: ()


METHODS: Registry[Method] = Registry("method", group="edgeprune.methods")


def _hired(seen: Seen, keep: int, plan: TokenPlan) -> Reduction:
    weights = weigh.region_mass(seen, plan.early_layer, plan.alpha)
    scores = score.cls_attention(seen, plan.feature_layer)
    return combine.drop(select.by_priority(scores, weights, seen.slot, keep))


def _random(seen: Seen, keep: int, plan: TokenPlan) -> Reduction:
    return combine.drop(select.by_score(score.noise(seen, plan.seed), seen.slot, keep))


def _uniform(seen: Seen, keep: int, plan: TokenPlan) -> Reduction:
    return combine.drop(select.by_stride(seen.slot, keep))


def _downsample(seen: Seen, keep: int, plan: TokenPlan) -> Reduction:
    return combine.pool(seen, keep)


for _method in (
    Method(
        "hired",
        "class-token attention ranks tokens; an early layer's attention shares the budget over tiles",
        "HiRED, arXiv 2408.10945 (paper mode: rectangular regions, attention mass; exact apportionment instead of floors)",
        _hired,
        layers=lambda plan: (plan.early_layer, plan.feature_layer),
    ),
    Method("random", "seeded random tokens", "control", _random),
    Method("uniform", "every n-th token of the packed sequence", "control", _uniform),
    Method("downsample", "average pooling into exactly K rectangular cells", "control", _downsample),
    Method("full", "nothing dropped: what budget 1.0 runs", "control", _uniform),
):
    METHODS.add(_method.name, _method)

CONTROLS = ("random", "uniform", "downsample")
