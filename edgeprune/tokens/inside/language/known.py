"""Cuts whose rows are known before the language model runs: by the encoder's score, or all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeprune.later import torch
from edgeprune.plan import MethodPlan
from edgeprune.tokens.inside.rows import LanguageCut, LanguageRows
from edgeprune.tokens.methods import vflowopt
from edgeprune.tokens.readings import TowerOutputs

if TYPE_CHECKING:
    from torch import Tensor


def _by_encoder(rows: LanguageRows, settings: Mapping[str, float]) -> Tensor:
    return rows["salience"]


def _nobody(rows: LanguageRows, settings: Mapping[str, float]) -> Tensor:
    return torch.zeros(rows.visual.shape[0])


def _importance(outputs: TowerOutputs, plan: MethodPlan) -> Tensor:
    return vflowopt.importance(outputs, plan)


VFLOWOPT_ROWS = LanguageCut(
    name="vflowopt",
    summary="rows that the vision tower's sink tokens attend to least; the question is not looked at",
    source="VFlowOpt, repository sihany077/VFlowOpt",
    evidence="code read",
    differs="the later stages; counts are given, not searched",
    rank=_by_encoder,
    reads=frozenset({"salience"}),
    encoder=_importance,
    of_tower=lambda plan: vflowopt.VFLOWOPT.reads(plan),
)
TODRE_ROWS = LanguageCut(
    name="todre",
    summary="all visual rows (KEEP 0), in the source before layer 7/8 of the model",
    source="ToDRE, arXiv 2505.18757, second stage",
    evidence="paper",
    differs="always, where the source first asks whether text and picture still look at each other",
    rank=_nobody,
    nobody=True,
)
YOPO_ROWS = LanguageCut(
    name="yopo",
    summary="all visual rows (KEEP 0), in the source from half of the model on",
    source="YOPO, arXiv 2410.06169",
    evidence="code read",
    differs="the visual cut alone: no attention among neighbours, no heads, no channels; the source trains the model for it",
    rank=_nobody,
    nobody=True,
)
