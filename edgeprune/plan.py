"""What to keep, as data: budgets and the token plan.

A budget is a keep ratio (0.2) or a count (576). Either way it becomes one integer K, the number of visual tokens the language model
sees for every picture that has that many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from edgeprune.errors import PlanError

PositionPolicy = Literal["keep", "renumber"]
NewlinePolicy = Literal["all", "rows", "none"]
BudgetBase = Literal["largest", "picture"]


@dataclass(frozen=True)
class Budget:
    """One budget as the user wrote it (`label`), as a ratio of the candidates or as a count."""

    label: str
    ratio: float | None
    count: int | None

    def keep(self, candidates: int) -> int:
        """K for a picture or model with this many candidate tokens; at least 1, never more than there are."""
        if self.count is not None:
            return min(self.count, candidates)
        assert self.ratio is not None
        return min(candidates, max(1, round(self.ratio * candidates)))

    @property
    def is_full(self) -> bool:
        return self.ratio == 1.0


def budget_from_text(text: str) -> Budget:
    """Read `0.2` (keep ratio, above 0 up to 1) or `576` (token count); `1` means the whole, as `1.0` does."""
    try:
        value = float(text)
    except ValueError as error:
        raise PlanError(
            f"budget {text!r} is not a number; give a keep ratio such as 0.2 or a token count such as 576"
        ) from error
    if 0 < value <= 1:
        return Budget(f"{value:g}" if value < 1 else "1.0", value, None)
    if value > 1 and value.is_integer():
        return Budget(str(int(value)), None, int(value))
    raise PlanError(f"budget {text!r} is neither a keep ratio in (0, 1] nor a whole token count; try 0.2 or 576")


def settings_from_text(pairs: Sequence[str]) -> dict[str, float]:
    """Read `name=number` pairs. Raises PlanError for anything else."""
    found = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError as error:
            raise PlanError(f"setting {pair!r} is not NAME=NUMBER; write for example --set window=7") from error
    return found


@dataclass(frozen=True)
class TokenPlan:
    """How K tokens are chosen and handed to the language model.

    method       a name in `edgeprune.tokens.methods.METHODS`
    alpha        HiRED's share of the budget for the thumbnail
    early_layer  vision layer whose class-token attention shares the budget over tiles
    feature_layer  vision layer whose output is used and whose class-token attention ranks tokens (set from the checkpoint)
    last_layer   last layer of the tower (set from the checkpoint)
    seed         of the random control
    position_ids "keep": a kept token keeps the position it had in the unpruned sequence; "renumber": positions are contiguous
    newline      "all": every mosaic row keeps its newline token; "rows": rows with a kept token do; "none": no newlines below budget 1.0
    budget_of    "largest": a ratio counts from the largest tile grid, so K is one number; "picture": from each picture's own tiles
    settings     numbers of the method by name, as `edgeprune methods NAME` lists them; what is absent has its default
    """

    method: str = "hired"
    alpha: float = 0.5
    early_layer: int = 0
    feature_layer: int = 0
    last_layer: int = 0
    seed: int = 0
    position_ids: PositionPolicy = "keep"
    newline: NewlinePolicy = "all"
    budget_of: BudgetBase = "largest"
    settings: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise PlanError(f"alpha is {self.alpha}; expected a share between 0 and 1")
        if not 0 <= self.early_layer <= self.feature_layer:
            raise PlanError(
                f"early layer {self.early_layer} is not available; choose one from 0 to {self.feature_layer}, the feature layer"
            )
