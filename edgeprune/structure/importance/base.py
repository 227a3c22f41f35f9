"""What an importance is: a name, what calibration has to measure for it, and a number per unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgeprune.structure.plan import ModelPart
from edgeprune.structure.sites import PruningSite
from edgeprune.structure.statistics import BlockStatistics, SiteStatistics, StatisticNeed

if TYPE_CHECKING:
    from torch import Tensor

ImportanceEvidence = Literal["paper", "code read", "reconstruction", "control"]


@dataclass(frozen=True)
class Importance:
    """Units with a higher score stay.

    score  (site, stats, seed) -> [units] float64, finite and at least 0
    needs  what the score reads of `SiteStatistics`; empty: the weights are enough and no picture is needed
    noise  True: where no pictures are given, calibration on noise is what its source does
    parts  where it has a meaning of its own; elsewhere it is refused
    """

    name: str
    what: str
    source: str
    evidence: ImportanceEvidence
    score: Callable[[PruningSite, SiteStatistics, int], Tensor]
    needs: frozenset[StatisticNeed] = frozenset()
    noise: bool = False
    parts: tuple[ModelPart, ...] = ("tower", "language")


@dataclass(frozen=True)
class BlockImportance:
    """Blocks with a higher score stay. `score` reads what was measured; None: the block is left out and the loss of that is measured."""

    name: str
    what: str
    source: str
    evidence: ImportanceEvidence
    score: Callable[[BlockStatistics], float] | None
    needs: frozenset[StatisticNeed] = frozenset()
    parts: tuple[ModelPart, ...] = ("tower", "language")
