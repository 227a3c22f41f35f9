"""Class attention ranks tokens, equal shares for all tiles: FasterVLM, VTC-CLS, and DAMRO's filter as a selector."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.plan import MethodPlan
from edgeprune.tokens import combine, score, select, weigh
from edgeprune.tokens.readings import Reduction, TowerOutputs, reads
from edgeprune.tokens.registry.method import Method, Setting

if TYPE_CHECKING:
    from torch import Tensor

_WINDOW = Setting("window", 3, "how many layers up to the feature layer are summed", least=1, whole=True)
_OUTLIERS = Setting(
    "outliers", 10, "how many tokens of each tile with the highest attention are distrusted", whole=True
)


def _best(scores: Tensor, outputs: TowerOutputs, keep: int) -> Reduction:
    return combine.drop(select.by_priority(scores, weigh.equal(outputs), outputs.slot, keep))


def _fastervlm(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    return _best(score.cls_mean(outputs, plan.feature_layer), outputs, keep)


def _window(plan: MethodPlan) -> tuple[int, ...]:
    return tuple(range(max(0, plan.feature_layer - int(_WINDOW(plan)) + 1), plan.feature_layer + 1))


def _vtc_cls(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    layers = torch.stack([score.cls_mean(outputs, layer) for layer in _window(plan)])
    return _best(layers.sum(dim=0), outputs, keep)


def _damro(outputs: TowerOutputs, keep: int, plan: MethodPlan) -> Reduction:
    rank = select.ranks(outputs["wide", plan.last_layer], outputs.slot)
    behind = torch.where(rank < int(_OUTLIERS(plan)), rank + rank.shape[1], rank)
    return _best(-behind.to(torch.float32), outputs, keep)


FASTERVLM = Method(
    "fastervlm",
    "class attention of the feature layer ranks tokens, equal shares per tile",
    "FasterVLM, github.com/Theia-4869/FasterVLM",
    _fastervlm,
    reads=lambda plan: reads(attention=(plan.feature_layer,)),
    evidence="code read",
    differs="padding gets nothing",
)
VTC_CLS = Method(
    "vtc-cls",
    "class attention summed over the last layers ranks tokens",
    "VTC-CLS, github.com/THU-MIG/VTC-CLS",
    _vtc_cls,
    reads=lambda plan: reads(attention=_window(plan)),
    evidence="code read",
    differs="a window of 3 layers as in the paper (the script has 7); several tiles share the budget equally",
    settings=(_WINDOW,),
)
DAMRO = Method(
    "damro",
    "class attention ranks tokens, the highest few of each tile are distrusted and come last",
    "DAMRO, github.com/coder-gx/DAMRO",
    _damro,
    reads=lambda plan: reads(wide=(plan.last_layer,)),
    evidence="reconstruction",
    differs="the source decodes against these outliers; here they are the last to be kept, which nobody has published",
    settings=(_OUTLIERS,),
)
