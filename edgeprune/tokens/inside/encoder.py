"""The encoder's score of visual tokens, for rankings inside the language model that go by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.plan import MethodPlan
from edgeprune.tokens import score
from edgeprune.tokens.inside.rows import LanguageCut
from edgeprune.tokens.readings import Reads, TowerOutputs

if TYPE_CHECKING:
    from torch import Tensor


def encoder_reads(cut: LanguageCut | None, plan: MethodPlan) -> Reads:
    """What it looks at in the tower; nothing where no ranking goes by it."""
    if cut is None or "salience" not in cut.reads:
        return Reads()
    return score.salience_reads(plan) if cut.of_tower is None else cut.of_tower(plan)


def encoder_score(cut: LanguageCut, outputs: TowerOutputs, plan: MethodPlan) -> Tensor:
    """[T, N], higher is worth more."""
    return score.salience(outputs, plan) if cut.encoder is None else cut.encoder(outputs, plan)
