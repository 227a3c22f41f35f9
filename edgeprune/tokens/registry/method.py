"""What a token-reduction method is: a function, what it reads, and what a user must know about it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgeprune.plan import MethodPlan
from edgeprune.tokens.readings import Reads, Reduction, TowerOutputs

if TYPE_CHECKING:
    from edgeprune.models.spec import TowerSpec
    from edgeprune.tokens.inside.tower.plan.cuts import TowerCuts

Evidence = Literal["code read", "paper", "reconstruction", "control", "own"]


@dataclass(frozen=True)
class Setting:
    """A number that tunes a method: `setting(plan)` is the plan's value or the default.

    per_layer  also as name_<layer>, for one layer
    whole      no fraction
    is_layer   a vision layer no later than the feature layer
    """

    name: str
    default: float
    help: str
    least: float = 0
    most: float = math.inf
    per_layer: bool = False
    whole: bool = False
    is_layer: bool = False

    def __call__(self, plan: MethodPlan) -> float:
        return plan.settings.get(self.name, self.default)


@dataclass(frozen=True)
class Calibration:
    """How numbers that a source draws from each picture are frozen: measured over pictures, then settled.

    measure(outputs, plan): statistics of one picture by name.  settle(all of them, plan): settings for the plan.
    reads(plan): what measuring looks at; None: the same as the method.
    """

    help: str
    measure: Callable[[TowerOutputs, MethodPlan], dict[str, float]]
    settle: Callable[[Sequence[Mapping[str, float]], MethodPlan], dict[str, float]]
    reads: Callable[[MethodPlan], Reads] | None = None


@dataclass(frozen=True)
class Method:
    """A token-reduction method.

    reduce     (outputs, keep, plan) -> Reduction of exactly `keep` rows; torch code whose shapes follow from `keep` and the shapes of `outputs`
    reads      what it looks at, given the plan (whose layers are then known)
    evidence   what the implementation rests on: released code that was read, the paper's text, or a reconstruction from less
    differs    where it departs from its source on purpose
    cost       growth with N tokens, K kept and C channels
    own_cuts   (plan, keep, tiles, tower) -> how tokens leave inside the tower before that, for methods that have a tower of their own
    steady     least share of the kept tokens that another rounding of what it reads leaves as they are; below 1 for methods that compare
               sums of many products or choose one token after the other, where a near tie may fall either way
    """

    name: str
    summary: str
    source: str
    reduce: Callable[[TowerOutputs, int, MethodPlan], Reduction]
    reads: Callable[[MethodPlan], Reads] = lambda plan: Reads()
    evidence: Evidence = "own"
    differs: str = ""
    cost: str = "N log N"
    steady: float = 1.0
    settings: tuple[Setting, ...] = ()
    calibration: Calibration | None = None
    own_cuts: Callable[[MethodPlan, int, int, TowerSpec], TowerCuts] | None = None

    @property
    def acts(self) -> str:
        """Where tokens leave."""
        return "inside the tower" if self.own_cuts else "at the encoder output"
