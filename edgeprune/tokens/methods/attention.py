"""Class attention ranks tokens, equal shares for all tiles: FasterVLM, VTC-CLS, and DAMRO's filter as a selector."""

from __future__ import annotations

import torch
from torch import Tensor

from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine, score, select, weigh
from edgeprune.tokens.registry.method import Method, Setting
from edgeprune.tokens.seen import Reads, Reduction, TowerOutputs

_WINDOW = Setting("window", 3, "how many layers up to the feature layer are summed", least=1, whole=True)
_OUTLIERS = Setting(
    "outliers", 10, "how many tokens of each tile with the highest attention are distrusted", whole=True
)


def _best(scores: Tensor, seen: TowerOutputs, keep: int) -> Reduction:
    return combine.drop(select.by_priority(scores, weigh.equal(seen), seen.slot, keep))


def _fastervlm(seen: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    return _best(score.cls_mean(seen, plan.feature_layer), seen, keep)


def _window(plan: MethodPlan) -> tuple[int, ...]:
    return tuple(range(max(0, plan.feature_layer - int(_WINDOW(plan)) + 1), plan.feature_layer + 1))


def _vtc_cls(seen: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    layers = torch.stack([score.cls_mean(seen, layer) for layer in _window(plan)])
    return _best(layers.sum(dim=0), seen, keep)


def _damro(seen: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    rank = select.ranks(seen.wide[plan.last_layer], seen.slot)
    behind = torch.where(rank < int(_OUTLIERS(plan)), rank + rank.shape[1], rank)
    return _best(-behind.to(torch.float32), seen, keep)


FASTERVLM = Method(
    "fastervlm",
    "class attention of the feature layer ranks tokens, equal shares per tile",
    "FasterVLM, github.com/Theia-4869/FasterVLM",
    _fastervlm,
    reads=lambda plan: Reads(attention=(plan.feature_layer,)),
    evidence="code read",
    differs="padding gets nothing",
)
VTC_CLS = Method(
    "vtc-cls",
    "class attention summed over the last layers ranks tokens",
    "VTC-CLS, github.com/THU-MIG/VTC-CLS",
    _vtc_cls,
    reads=lambda plan: Reads(attention=_window(plan)),
    evidence="code read",
    differs="a window of 3 layers as in the paper (the script has 7); several tiles share the budget equally",
    settings=(_WINDOW,),
)
DAMRO = Method(
    "damro",
    "class attention ranks tokens, the highest few of each tile are distrusted and come last",
    "DAMRO, github.com/coder-gx/DAMRO",
    _damro,
    reads=lambda plan: Reads(wide=(plan.last_layer,)),
    evidence="reconstruction",
    differs="the source decodes against these outliers; here they are the last to be kept, which nobody has published",
    settings=(_OUTLIERS,),
)
